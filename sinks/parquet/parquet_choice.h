/* What users choose of Parquet files: the options that every sink made of such files has, and how
 * they are read. Pure. */
#pragma once
#include "cdc/base/opt.h"
#include "sinks/parquet/parquet_writer.h"

/* Entries of a sink's table of options. */
#define PARQUET_CHOICE_OPTIONS                                                                     \
    { .key = "compression",                                                                        \
      .type = OPT_CHOICE,                                                                          \
      .fallback = "zstd",                                                                          \
      .choices = "zstd|snappy|lz4|none",                                                           \
      .doc = "codec of data files" },                                                              \
    {                                                                                              \
        .key = "encoding", .type = OPT_CHOICE, .fallback = "modern",                               \
        .choices = "modern|compatible",                                                            \
        .doc = "compatible: dictionary and plain only, for readers older than 2025"                \
    }
/* codec, level and profile of those; the rest is zero. */
struct parquet_options parquet_chosen(const struct opts *o);

/* The option text=a,public.t.b : is the column to be stored as text? Named alone, or with its
 * table's label. list NULL = none is. */
bool parquet_text_chosen(const char *list, const char *table, const char *column);
