"""A headless Chromium, driven through the pipe of its own DevTools protocol: nothing but Chromium is needed."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
FLAGS = (
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--remote-debugging-pipe',
)  # fmt: skip
SECONDS = 60  # for one answer


class Page:
  """One page. `requests`: every address that it asked for; `errors`: what went wrong in its script."""

  def __init__(self, to_browser, from_browser):
    self._to, self._from, self._rest, self._number = to_browser, from_browser, b'', 0
    self.requests, self.errors, self._session = [], [], None
    target = self.send('Target.createTarget', url='about:blank')['targetId']
    self._session = self.send('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    for domain in ('Page', 'Runtime', 'Network', 'Log'):
      self.send(f'{domain}.enable')

  def send(self, method, **params):
    """Calls a method of the protocol and returns its result."""
    self._number += 1
    message = {'id': self._number, 'method': method, 'params': params}
    message |= {'sessionId': self._session} if self._session else {}
    os.write(self._to, json.dumps(message).encode() + b'\0')
    while (answer := self._receive()).get('id') != self._number:
      self._note(answer)
    if 'error' in answer:
      raise RuntimeError(f'{method}: {answer["error"]}')
    return answer['result']

  def open(self, path, width=1280, height=900, dark=False):
    """Loads a file and waits until it is there."""
    self.size(width, height)
    scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
    self.send('Emulation.setEmulatedMedia', features=[scheme])
    self.requests.clear()
    self.errors.clear()
    self.send('Page.navigate', url=path.as_uri())
    self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

  def size(self, width, height):
    self.send('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)

  def wait(self, condition):
    until = time.monotonic() + SECONDS
    while not self.run(condition):
      if time.monotonic() > until:
        raise TimeoutError(f'{condition} was not true after {SECONDS} s')
      time.sleep(0.05)

  def run(self, script):
    """The value of an expression in the page."""
    result = self.send('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
    if 'exceptionDetails' in result:
      raise RuntimeError(result['exceptionDetails']['exception'].get('description', script))
    return result['result'].get('value')

  def point(self, selector, click=False):
    """Moves the mouse to the middle of an element, as a person would: what lies above it gets the event."""
    x, y = self.run(
      f"""(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});
      const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"""
    )
    mouse = lambda kind, **more: self.send('Input.dispatchMouseEvent', type=kind, x=x, y=y, **more)
    mouse('mouseMoved')
    if click:
      mouse('mousePressed', button='left', clickCount=1)
      mouse('mouseReleased', button='left', clickCount=1)

  def key(self, name):
    code = {'Enter': 13, 'Tab': 9, 'ArrowLeft': 37, 'ArrowUp': 38, 'ArrowRight': 39, 'ArrowDown': 40}[name]
    more = {'text': '\r'} if name == 'Enter' else {}
    self.send('Input.dispatchKeyEvent', type='keyDown', key=name, code=name, windowsVirtualKeyCode=code, **more)
    self.send('Input.dispatchKeyEvent', type='keyUp', key=name, code=name, windowsVirtualKeyCode=code)

  def choose(self, selector, value):
    """Sets a select element."""
    self.run(
      f"""(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};
      e.dispatchEvent(new Event('change')); }})()"""
    )

  def screenshot(self, path):
    path.write_bytes(base64.b64decode(self.send('Page.captureScreenshot')['data']))

  def _receive(self):
    until = time.monotonic() + SECONDS
    while b'\0' not in self._rest:
      if not select.select([self._from], [], [], until - time.monotonic())[0]:
        raise TimeoutError(f'Chromium did not answer within {SECONDS} s')
      part = os.read(self._from, 1 << 16)
      if not part:
        raise RuntimeError('Chromium ended')
      self._rest += part
    message, self._rest = self._rest.split(b'\0', 1)
    return json.loads(message)

  def _note(self, event):
    params = event.get('params', {})
    if event.get('method') == 'Network.requestWillBeSent':
      self.requests.append(params['request']['url'])
    elif event.get('method') == 'Runtime.exceptionThrown':
      self.errors.append(params['exceptionDetails']['exception'].get('description', 'exception'))
    elif event.get('method') == 'Log.entryAdded' and params['entry']['level'] == 'error':
      self.errors.append(params['entry']['text'])


@contextlib.contextmanager
def launch():
  """A Page in a fresh profile. The test fails, and is not skipped, where there is no Chromium."""
  program = next((found for name in NAMES if (found := shutil.which(name))), None)
  if program is None:
    pytest.fail(f'none of {", ".join(NAMES)} found; install it: apt-get install chromium', pytrace=False)
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    pipes = [*os.pipe(), *os.pipe()]
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (pipes[0], pipes[3])]  # Chromium wants 3 and 4
    shell = ('bash', '-c', f'exec "$@" 3<&{high[0]} 4>&{high[1]}', 'bash')
    command = [*shell, program, *FLAGS, f'--user-data-dir={profile}']
    process = subprocess.Popen(command, pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for end in (pipes[0], pipes[3], *high):
      os.close(end)
    try:
      yield Page(pipes[1], pipes[2])
    finally:
      process.terminate()
      try:
        process.wait(20)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
      os.close(pipes[1])
      os.close(pipes[2])
