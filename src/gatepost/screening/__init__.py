"""
Looks at what syntax cannot tell: recipients' domains, attachments, variables, links, spam and malware.

`Screener` is what accept asks; `guard` keeps a scanner that hangs from holding up the doors.
"""
