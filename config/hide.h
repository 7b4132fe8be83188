/* What a job must never show: secrets of its URLs, and whatever ${env:X} and ${file:/p} gave. Texts
 * of libraries, servers and file systems quote such values; every line that leaves the process
 * passes here and shows instead where the value came from.
 *
 * A value of 8 bytes and more is taken out wherever it stands, also where a message was cut inside
 * it (16 bytes of it are enough); one of 4 to 7 bytes as a whole word; a shorter one only in double
 * quotes, since it stands in every line. Thread: one owner while it is filled, any afterwards. */
#pragma once
#include "cdc/base/buf.h"

struct hide;
struct hide *hide_new(void);
void hide_free(struct hide *h); /* values are overwritten first; NULL is fine */
/* shown: what stands there instead, e.g. "${env:X}". An empty value is nothing to hide. */
void hide_add(struct hide *h, const char *value, const char *shown);
/* In place. The form of struct log's hide: `h` is a struct hide, NULL hides nothing. */
void hide_text(const void *h, struct buf *text);
/* The same in the string values of a JSON text; keys, numbers and words of JSON stay. */
void hide_json(const void *h, struct buf *text);
