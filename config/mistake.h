/* Mistakes of a job text, all of them at once: each with its place, what was found, and what was
 * meant. Places count from 1; columns count characters, not bytes. Texts never quote what was put
 * in for ${..}. Thread: one owner. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "cdc/base/check.h"
#include "cdc/base/err.h"

#define MISTAKES_MAX 100u

struct place {
    uint32_t line, column;
};
struct mistake {
    struct place place;
    char code[40];  /* stable snake_case */
    char text[320]; /* one line, escaped */
    char cure[320]; /* "" if there is none */
};
struct mistakes {
    struct mistake *at; /* sorted by place after mistakes_sort */
    uint32_t count;
    uint32_t more; /* found beyond MISTAKES_MAX, not kept */
};
void mistakes_init(struct mistakes *m);
void mistakes_release(struct mistakes *m);
/* cure may be NULL; it is taken as it is. */
void mistake_add(struct mistakes *m, struct place place, const char *code, const char *cure,
                 const char *fmt, ...) TR_PRINTF(5, 6);
/* The text, code and cure of an error. */
void mistake_add_err(struct mistakes *m, struct place place, const struct err *err);
void mistakes_sort(struct mistakes *m);
