"""The native core: C structures in shared memory, and the loops that drive them. No policy."""
