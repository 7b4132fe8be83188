/* The stored position of a job: what a sink keeps beside the data. ASCII JSON, fixed key order, at
 * most POSITION_BYTES_MAX:
 *
 *   {"v":1,"source":<lineage object>,"applied":"0/16B3748","resume":"0/16B3748","x":731,
 *    <the hybrid algorithm's members>}                                 without the line break
 *
 * Reading is strict: other order, missing or doubled keys, control bytes and unknown versions are
 * errors, never guesses. The members after "x" belong to cdc/hybrid.c and are handed on as they
 * lie. Pure. Thread: any. */
#pragma once
#include <stdint.h>

#include "cdc/source.h"

#define POSITION_BYTES_MAX 8192u

struct stored_position {
    char *lineage; /* owned; a JSON object */
    struct logpos applied, resume;
    uint64_t x;   /* no chunk may use a snapshot with xmin below it; 0 = none */
    char *hybrid; /* owned; the other members as an object of their own: {"tables":...}; {} if there
                     are none */
};
void stored_position_release(struct stored_position *p);

/* Appends everything before the hybrid algorithm's members, with the comma after "x" left out;
 * position_close ends it. -1 with ERR_FATAL (code "position_too_long") if the limit is passed. */
int position_open(struct buf *out, const struct source_ops *source, const char *lineage,
                  struct logpos applied, struct logpos resume, uint64_t x, struct err *err);
void position_close(struct buf *out);
/* -1: ERR_FATAL, code "position_malformed" or "position_version" with a cure. */
int position_decode(const char *json, const struct source_ops *source, struct stored_position *out,
                    struct err *err);
