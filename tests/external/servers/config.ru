# A Rack application for unicorn: /slow?n=N&ms=MS&size=SIZE answers after MS milliseconds.
run lambda { |env|
  body = env['rack.input'].read.to_s
  asked = env['QUERY_STRING'].split('&').to_h { |pair| pair.split('=', 2) }
  sleep(asked['ms'].to_i / 1000.0)
  answer = "#{asked['n']}:#{body.bytesize}:" + 'x' * asked['size'].to_i
  [200, { 'Content-Type' => 'text/plain', 'Content-Length' => answer.bytesize.to_s }, [answer]]
}
