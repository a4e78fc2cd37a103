"""What schemathesis cannot know by itself: how a finished message is written into a body."""

import schemathesis


@schemathesis.serializer("message/rfc822")
def finished_message(ctx, value):
    """Send generated text as it is."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
