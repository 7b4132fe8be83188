/* The stable codes of errors, for the docs: each says what happened in one line. A test compares
 * the list with the sources. Constant. Thread: any. */
#pragma once
#include <stddef.h>

struct error_code {
    const char *code;
    const char *doc;
};
extern const struct error_code error_codes[]; /* sorted */
extern const size_t error_code_count;
