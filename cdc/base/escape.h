/* Text from outside, made safe for one line of a log, an error or a terminal.
 * Control characters (C0, DEL, C1) and bytes that are not UTF-8 become \n \r \t or \xNN; everything
 * else stays as it is. A backslash stays one, so escaping what is already escaped changes nothing.
 * Thread: any. */
#pragma once
#include "cdc/base/buf.h"

/* At least one byte is left at s (s < end). The length of the UTF-8 character at s (1 to 4,
 * shortest form, no surrogates, at most U+10FFFF), or minus the number of bytes that one U+FFFD
 * replaces (1 to 3). */
int utf8_length(const uint8_t *s, const uint8_t *end);

void escape_put(struct buf *out, const char *s, size_t len);
/* Appends to the string in out[cap] (NUL-terminated, cap at least 4); what does not fit is cut at a
 * character and "..." ends it. */
void escape_append(char *out, size_t cap, const char *s, size_t len);
