// What `nest start` runs, without a line of shutdown code: /MS answers "done" after so many milliseconds.
import 'reflect-metadata'
import { Controller, Get, Module, Param } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'

@Controller()
class Slow {
  @Get(':ms')
  async get (@Param('ms') ms: string): Promise<string> {
    console.log('request')
    await new Promise((resolve) => setTimeout(resolve, Number(ms)))
    return 'done'
  }
}

@Module({ controllers: [Slow] })
class App {}

NestFactory.create(App, { logger: false })
  .then((app) => app.listen(Number(process.env.PORT), '127.0.0.1'))
  .then(() => console.log('listens'))
