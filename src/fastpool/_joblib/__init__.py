"""What the backend for joblib is made of."""
