"""Asks: one module a way of asking, none of which ever waits.  A verdict is policy's; here is only
what was seen.

A probe is a class with these methods; probes.asking puts a limit of time to every sample.

    ask(answer)   take one sample; call answer(Reading) once, at once or later; never raise
    cancel()      give up on the sample that is under way, if any: close, kill; answer() is not
    called any more
"""
