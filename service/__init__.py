"""The running host: it makes services of the installs, lends them a cache and a database, and serves them."""
