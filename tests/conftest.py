"""What all tests share: prepared data and compiled programs, kept from run to run, outside of the user's folders.

Data are prepared anew when a builder's VERSION changes, as for a user; after another change, remove the folder.
"""

import os
import tempfile
from pathlib import Path

import jax

# Set before any test module is imported, so that subprocesses inherit them too.
SCRATCH = Path(tempfile.gettempdir()) / f'mmjax-tests-{os.getuid()}'
os.environ.setdefault('TFDS_DATA_DIR', str(SCRATCH / 'data'))
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(SCRATCH / 'compiled'))
jax.config.update('jax_compilation_cache_dir', os.environ['JAX_COMPILATION_CACHE_DIR'])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
jax.config.update('jax_default_prng_impl', 'rbg')  # in this process alone: `init` compiles in less than half the time
