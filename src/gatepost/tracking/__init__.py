"""
TRACKING: pixels, links and unsubscriptions as they come back from readers' mail programs.

Leaves: facts, by way of `engaged`. Not here: how they are put into mail (mime.tracked, dispatch.tracked), the door (http.public).
"""
