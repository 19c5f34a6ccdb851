"""``python -m worldenv.cli``, as training processes are launched."""

from . import main

main()
