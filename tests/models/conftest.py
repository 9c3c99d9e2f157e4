from tests.fusion.conftest import quick_compile  # noqa: F401, a fixture of this folder too
