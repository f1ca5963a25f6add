"""The jobs of ``demo.py``. Each runs on any pool and knows nothing of which one it was given."""
