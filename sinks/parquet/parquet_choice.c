/* See parquet_choice.h. */
#include "sinks/parquet/parquet_choice.h"

#include <stdlib.h>
#include <string.h>

static enum parquet_codec codec_of(const char *name) {
    return strcmp(name, "zstd") == 0     ? PARQUET_ZSTD
           : strcmp(name, "snappy") == 0 ? PARQUET_SNAPPY
           : strcmp(name, "lz4") == 0    ? PARQUET_LZ4_RAW
                                         : PARQUET_NONE;
}

struct parquet_options parquet_chosen(const struct opts *o) {
    enum parquet_codec codec = codec_of(opts_text(o, "compression"));
    return (struct parquet_options){
        .codec = codec,
        .level = codec == PARQUET_ZSTD ? 1 : 0,
        .profile =
            strcmp(opts_text(o, "encoding"), "modern") == 0 ? PARQUET_MODERN : PARQUET_COMPATIBLE,
    };
}

static bool holds(const char *list, const char *word) {
    size_t len = strlen(word);
    for (const char *at = strstr(list, word); at; at = strstr(at + 1, word)) {
        if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

bool parquet_text_chosen(const char *list, const char *table, const char *column) {
    if (!list) {
        return false;
    }
    char *full = xasprintf("%s.%s", table, column);
    bool found = holds(list, column) || holds(list, full);
    free(full);
    return found;
}
