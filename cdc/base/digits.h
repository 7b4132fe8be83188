/* Decimal digits of an unsigned number, two at a time. Inline because numbers in rows go through
 * it, a cell each. Pure. Thread: any. */
#pragma once
#include <stdint.h>
#include <string.h>

extern const char two_digits[201]; /* "00" "01" ... "99"; in buf.c */

/* Writes v so that it ends before `end`, at most 20 bytes; returns where it begins. */
static inline char *digits_before(char *end, uint64_t v) {
    while (v >= 100) {
        end -= 2;
        memcpy(end, two_digits + 2 * (v % 100), 2);
        v /= 100;
    }
    if (v >= 10) {
        end -= 2;
        memcpy(end, two_digits + 2 * v, 2);
    } else {
        *--end = (char)('0' + v);
    }
    return end;
}
