"""
The composition root: the only package that constructs stores, couriers, loops and doors.

`parts` makes the pieces that the settings ask for; `door` and `dispatch` put them together into the two kinds of process.
"""
