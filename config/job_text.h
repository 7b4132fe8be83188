/* The job language: bytes to a syntax tree, by the grammar of INTERFACE.
 *
 *   file    = { blank | comment } job { rule | blank | comment }
 *   job     = SOURCE " -> " SINK
 *   rule    = pattern ":" action { " " action }
 *   pattern = part { "." part }              matched from the right; part = glob (* ?) or "quoted
 * name" ("" = one ") action  = word | word "=" value          value = bare word | 'text' ('' = one
 * ') | ( balanced )
 *
 * UTF-8; `#` at line start or after a blank opens a comment. All mistakes are found in one pass,
 * line by line, without recursion. The URLs stay spans here: url.h takes them apart. Pure. Thread:
 * any. */
#pragma once
#include <stdbool.h>

#include "config/mistake.h"

#define JOB_TEXT_BYTES_MAX (1u << 20)
#define JOB_RULES_MAX 10000u
#define JOB_NAME_BYTES_MAX 255u /* of one part of a pattern, or one column name */

/* Bytes of the text, borrowed from it. */
struct span {
    const char *at;
    size_t len;
    struct place place;
};

enum rule_action { RULE_SKIP, RULE_KEEP, RULE_APPEND, RULE_KEY };
struct pattern_part {
    char *text; /* owned; NULL = any */
    bool exact; /* it was quoted: no glob */
};
/* One action of one rule; a line with several actions gives several. */
struct rule {
    struct place place;        /* of the pattern */
    struct pattern_part space; /* schema */
    struct pattern_part name;  /* table */
    enum rule_action action;
    char *key;     /* of RULE_KEY: "a,b"; owned */
    char *pattern; /* as written, for messages; owned */
};
struct job_text {
    struct span source, sink; /* at NULL when the text has none */
    struct rule *rules;       /* in the order of the text */
    uint32_t rule_count, rule_room;
};
/* out is filled with what could be read; it counts only if no mistake was added. */
void job_text_parse(const char *text, size_t len, struct mistakes *mistakes, struct job_text *out);
void job_text_release(struct job_text *t);

/* The place of a byte of a span's line. */
struct place span_place(const struct span *s, const char *at);
