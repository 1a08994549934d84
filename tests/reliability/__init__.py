"""What nothing may happen to, shown with figures: `make reliability`.

Hosts in processes of their own race, are killed and are paused, on private instances of real servers, with a
fake upstream in a process of its own. docs/reliability.md says what is promised.
"""
