/* Writing JSON. Reading it is jansson's work. */
#pragma once
#include "cdc/base/buf.h"

/* "..." with escapes; the bytes must be UTF-8: invalid sequences become U+FFFD and the function
 * returns -1 (else 0). */
int json_put_string(struct buf *out, const char *s, size_t len);
void json_put_cstr(struct buf *out, const char *s);
void json_put_base64(struct buf *out, const void *p, size_t len); /* with the quotes */
