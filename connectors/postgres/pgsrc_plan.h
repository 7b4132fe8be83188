/* Inside of the value decoders: what a plan is made of, and the scalar decoders that cells, array
 * elements and the hot path share. Private to pgsrc_type*.c, pgsrc_text*.c and pgsrc_rows.c;
 * everybody else uses pgsrc_type.h. Pure functions; thread: any.
 *
 * A cell is decoded in two calls: a bound on its size in the batch, then the decoding into that
 * much room, which says how much was used. So nothing is allocated for a cell. The text decoders
 * read before they write: `out` may lie 16 bytes or more before `p`. */
#pragma once
#include "connectors/postgres/pgsrc_type.h"

/* What is done with the bytes of a column. The binary forms are those of the *_send functions
 * named. */
enum pgsrc_decode {
    DECODE_RAW =
        1, /* the bytes are the cell, in both forms: textsend, json_send, xml_send, enum_send */
    DECODE_CHAR, /* "char": one byte; 0 is the empty text, beyond ASCII the \ooo that servers from
                    16 on write */
    DECODE_BOOL, /* one byte; t or f */
    DECODE_INT16,
    DECODE_INT32,
    DECODE_INT64,
    DECODE_UINT32, /* oid */
    DECODE_FLOAT32,
    DECODE_FLOAT64,
    DECODE_DECIMAL, /* numeric_send, to an integer */
    DECODE_NUMERIC, /* numeric_send, to text */
    DECODE_BYTES,   /* byteasend; text is \x and hex */
    DECODE_DATE,
    DECODE_TIME,
    DECODE_TIMETZ,
    DECODE_TIMESTAMP,
    DECODE_TIMESTAMPTZ,
    DECODE_INTERVAL,
    DECODE_UUID,
    DECODE_VERSIONED, /* jsonb_send, jsonpath_send: a byte 1, then text */
    DECODE_BIT,
    DECODE_ARRAY,
    /* types kept as the server's text (TYPE_OTHER) whose binary form is turned into exactly that
       text */
    DECODE_XID, /* xid, cid */
    DECODE_XID8,
    DECODE_LSN,
    DECODE_TID,
    DECODE_INET, /* inet, cidr */
    DECODE_MACADDR,
    DECODE_MACADDR8,
    DECODE_TEXT_ONLY, /* everything else: the server's text only */
    DECODE_MISMATCH,  /* the catalogue's type is not the schema's: refused */
};

struct pgsrc_step {
    uint8_t decode;       /* enum pgsrc_decode */
    uint8_t wire_bytes;   /* exact length of the binary form, 0 = variable */
    uint8_t width;        /* of the cell, 0 = variable */
    bool binary;          /* the binary form is read here */
    uint32_t element_oid; /* of an array: the base type of the elements as array_send gives it */
    struct type type;
    uint64_t limit; /* of a DECIMAL of up to 18 digits: 10^precision */
};

struct pgsrc_plan {
    uint16_t column_count;
    struct pgsrc_step *steps;    /* one a column */
    struct pgsrc_step *elements; /* of arrays, at the column's index */
};

#define PGSRC_ARRAY_DIMENSIONS_MAX 6        /* MAXDIM */
#define PGSRC_ARRAY_ELEMENTS_MAX 134217727u /* MaxArraySize */
#define PGSRC_VALUE_BYTES_MAX (1u << 30)    /* the server's MaxAllocSize: no field is larger */

/* The step of a type whose domains are resolved (pgsrc_type.c). */
void pgsrc_step_init(struct pgsrc_step *step, uint32_t base_oid, const struct type *type,
                     bool is_enum);

/* Scalars: all kinds but DECODE_ARRAY. bound: bytes that are enough for the cell, or SIZE_MAX if
 * the bytes are malformed; decode: 0, or -1 if malformed, and the cell's size in *used. */
size_t pgsrc_scalar_binary_bound(const struct pgsrc_step *step, const uint8_t *p, size_t len);
int pgsrc_scalar_binary(const struct pgsrc_step *step, const uint8_t *p, size_t len, uint8_t *out,
                        size_t *used) TR_MUST_CHECK;
size_t pgsrc_scalar_text_bound(const struct pgsrc_step *step, size_t len);
int pgsrc_scalar_text(const struct pgsrc_step *step, const uint8_t *p, size_t len, uint8_t *out,
                      size_t *used) TR_MUST_CHECK;

/* Arrays, to the array image of type.h; the same two calls. */
size_t pgsrc_array_binary_bound(const struct pgsrc_step *array, const struct pgsrc_step *element,
                                const uint8_t *p, size_t len);
int pgsrc_array_binary(const struct pgsrc_step *element, const uint8_t *p, size_t len, uint8_t *out,
                       size_t *used) TR_MUST_CHECK;
size_t pgsrc_array_text_bound(const struct pgsrc_step *element, const uint8_t *p, size_t len);
int pgsrc_array_text(const struct pgsrc_step *element, const uint8_t *p, size_t len, uint8_t *out,
                     size_t *used) TR_MUST_CHECK;

/* Parts of the above in their own files: text of TYPE_OTHER values from their binary form (at most
 * 64 bytes), and times from text. */
int pgsrc_other_binary(enum pgsrc_decode decode, const uint8_t *p, size_t len, uint8_t *out,
                       size_t *used) TR_MUST_CHECK;
size_t pgsrc_put_lsn(uint64_t lsn, uint8_t *out);
int pgsrc_text_date(const uint8_t *p, size_t len, int32_t *days) TR_MUST_CHECK;
int pgsrc_text_time(const uint8_t *p, size_t len, int64_t *us) TR_MUST_CHECK;
int pgsrc_text_timetz(const uint8_t *p, size_t len, int64_t *us,
                      int32_t *seconds_east) TR_MUST_CHECK;
/* zoned: with an offset from UTC at its end, which is subtracted. */
int pgsrc_text_timestamp(const uint8_t *p, size_t len, bool zoned, int64_t *us) TR_MUST_CHECK;
int pgsrc_text_interval(const uint8_t *p, size_t len, int64_t *us, int32_t *days,
                        int32_t *months) TR_MUST_CHECK;

/* Fills err for a malformed value of a column; returns -1. form: "binary" or "text". */
int pgsrc_value_malformed(const struct batch *batch, uint16_t col, const char *form,
                          const uint8_t *p, size_t len, struct err *err);

static inline uint16_t pgsrc_be16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return __builtin_bswap16(v);
}
static inline uint32_t pgsrc_be32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}
static inline uint64_t pgsrc_be64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}
/* Cells are little-endian, and so is every machine this is built for. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "cells are written in the machine's order");
