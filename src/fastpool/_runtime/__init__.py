"""What the pool decides: options, processes, chunks, results, supervision. No bytes."""
