/* Lake types: the closed set of column types that Iceberg has and Parquet can carry, and how each
 * type of the change model maps to one. Shared by the parquet: and iceberg: sinks, so that both
 * write the same column the same way. A lake type is a plain value; it owns nothing.
 *
 *   lake type        Iceberg            Parquet
 *   BOOL             boolean            BOOLEAN
 *   INT              int                INT32
 *   LONG             long               INT64
 *   FLOAT, DOUBLE    float, double      FLOAT, DOUBLE
 *   DECIMAL(p,s)     decimal(p,s)       DECIMAL over INT32 (p <= 9), INT64 (p <= 18), else
 *                                       FIXED_LEN_BYTE_ARRAY of the fewest bytes, big-endian
 *   DATE             date               INT32 DATE, days since 1970-01-01
 *   TIME             time               INT64 TIME(MICROS, not UTC), 0 <= us < 24 h
 *   TIMESTAMP        timestamp          INT64 TIMESTAMP(MICROS, not UTC), since 1970-01-01
 *   TIMESTAMPTZ      timestamptz        INT64 TIMESTAMP(MICROS, UTC)
 *   STRING           string             BYTE_ARRAY STRING
 *   BINARY           binary             BYTE_ARRAY
 *   UUID             uuid               FIXED_LEN_BYTE_ARRAY(16) UUID
 *   LIST(element)    list<element>      3-level LIST; elements optional, never a list again
 *
 * From the change model: integers by width (UINT8, UINT16, YEAR -> INT, UINT32 -> LONG, UINT64 ->
 * DECIMAL(20,0)); DECIMAL with precision <= 38 and 0 <= scale <= precision -> the same, any other
 * DECIMAL and NUMERIC -> STRING; TEXT, JSON, ENUM, SET, OTHER -> STRING as they are; TIMETZ, BIT ->
 * STRING (text forms of cdc/value.h), INTERVAL -> STRING ({"months":1,"days":2,"us":3}); BYTES,
 * GEOMETRY -> BINARY (WKB, the SRID in front is dropped only if it is 0, else refused); ARRAY ->
 * LIST of its element's lake type.
 *
 * Values that a lake type cannot say (NaN in a decimal column, infinity in a date or timestamp,
 * time 24:00, arrays of several dimensions or with another lower bound than 1, years outside 64
 * bits of microseconds since 1970) are never bent: converting them is ERR_FATAL "lake_value" with
 * the table, the column and the cure (the `text=` option, which stores such columns as strings). */
#pragma once
#include "cdc/batch.h"

enum lake_kind {
    LAKE_BOOL = 1,
    LAKE_INT,
    LAKE_LONG,
    LAKE_FLOAT,
    LAKE_DOUBLE,
    LAKE_DECIMAL,
    LAKE_DATE,
    LAKE_TIME,
    LAKE_TIMESTAMP,
    LAKE_TIMESTAMPTZ,
    LAKE_STRING,
    LAKE_BINARY,
    LAKE_UUID,
    LAKE_LIST,
};
struct lake_type {
    enum lake_kind kind;
    enum lake_kind element;   /* of LIST */
    uint8_t precision, scale; /* of DECIMAL, or of LIST's DECIMAL elements */
};

/* as_text: the column is stored as STRING whatever its type: what json_cell.h says of the value,
 * without the quotes of a JSON string (12.30, 2026-01-02T03:04:05Z, infinity, base64 of bytes;
 * arrays, intervals and geometries are JSON texts). */
struct lake_type lake_type_of(const struct type *type, bool as_text);
bool lake_type_equal(const struct lake_type *a, const struct lake_type *b);
/* Iceberg's name: "long", "decimal(20,0)", ...; a LIST's is the caller's work, since it has ids. */
void lake_type_put_name(struct buf *out, const struct lake_type *type);
int lake_type_from_name(const char *name, struct lake_type *out); /* -1 = none of ours */
/* May a table's column go from one to the other by metadata alone (int->long, float->double, a
 * decimal's precision up, same scale)? */
bool lake_type_widens(const struct lake_type *from, const struct lake_type *to);

/* Cells as the lake has them. A null cell of a variable kind or a list is empty (its offsets are
 * equal); of a fixed kind it may be anything. Forms: fixed kinds little-endian side by side (BOOL
 * 1, INT/DATE/FLOAT 4, LONG/ TIME/TIMESTAMP(TZ)/DOUBLE 8; DECIMAL 8 or 16 bytes two's complement by
 * precision <= 18 or not; UUID 16), variable kinds offsets and bytes. */
struct lake_column {
    struct lake_type type;
    uint32_t rows;
    uint32_t width;          /* 0 = variable */
    const uint8_t *valid;    /* bitmap, NULL = all; a bit a row */
    const uint8_t *data;     /* fixed: rows * width */
    const uint32_t *offsets; /* variable: rows + 1; LIST: rows + 1 indexes into the elements */
    const struct lake_column *elements; /* of LIST: offsets[rows] of them */
};

/* Room for converted cells, kept between calls so that nothing is allocated per batch once warm. */
struct lake_scratch;
struct lake_scratch *lake_scratch_new(void);
void lake_scratch_free(struct lake_scratch *scratch);
/* The cells of batch column col of `rows` (indexes, count of them, each at most once; NULL = rows
 * 0..count-1) as lake type `to`. Where the memory forms agree and rows is NULL the batch's own
 * memory is borrowed. *out lives until the next call with the same scratch (one a column, then) or
 * the batch's end. A cell that is not carried is our bug (CHECK). ERR_FATAL "lake_value",
 * "array_malformed". */
int lake_column_of(struct lake_scratch *scratch, const struct batch *batch, uint16_t col,
                   const uint32_t *rows, uint32_t count, const struct lake_type *to,
                   struct lake_column *out, struct err *err);
