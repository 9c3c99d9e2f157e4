"""What all tests share: prepared data and compiled programs, kept from run to run, outside of the user's folders.

Data are prepared anew when a builder's VERSION changes, as for a user; after another change, remove the folder.
"""

import os
import tempfile
from pathlib import Path

# Set before JAX and any test module are imported, so that it and subprocesses read them.
SCRATCH = Path(tempfile.gettempdir()) / f'mmjax-tests-{os.getuid()}'
os.environ.setdefault('TFDS_DATA_DIR', str(SCRATCH / 'data'))
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(SCRATCH / 'compiled'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
os.environ.setdefault('JAX_DEFAULT_PRNG_IMPL', 'rbg')  # `init` compiles in less than half the time of threefry's
# Programs run once here, so that compiling them well does not pay; .ci/run compiles most marked tests as for a user.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
