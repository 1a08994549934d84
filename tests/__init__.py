"""The tests, and the fakes and the benchmark beside them."""
