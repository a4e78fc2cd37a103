"""
Certificates from an authority by ACME (RFC 8555): got, kept, renewed in time.

`shelf` is the folder DIR/acme, `order` gets one certificate, `renewal` decides when. The doors read the folder by
themselves (net.server_tls), so that a certificate that a command got is in use seconds later.
"""
