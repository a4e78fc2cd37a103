"""
Where mail lands: test mail to seeds, mailboxes of our own at providers, through the same door as all mail; then a look into each.

`sending` begins a test, `looking` finds its mail, `daily` begins one each day.
"""
