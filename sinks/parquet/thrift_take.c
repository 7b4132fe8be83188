/* See thrift_take.h. */
#include "sinks/parquet/thrift_take.h"

#include <string.h>

void thrift_take_init(struct thrift_take *t, const void *p, size_t n) {
    *t = (struct thrift_take){ .at = p, .end = (const uint8_t *)p + n };
}

static size_t left(const struct thrift_take *t) { return (size_t)(t->end - t->at); }

static uint8_t take_byte(struct thrift_take *t) {
    if (t->bad || t->at == t->end) {
        t->bad = true;
        return 0;
    }
    return *t->at++;
}

static void pass(struct thrift_take *t, uint64_t n) {
    if (t->bad || n > left(t)) {
        t->bad = true;
        return;
    }
    t->at += n;
}

uint64_t thrift_take_varint(struct thrift_take *t) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = take_byte(t);
        if (shift == 63 && byte > 1) {
            break;
        }
        v |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) {
            return v;
        }
    }
    t->bad = true;
    return 0;
}

static int64_t take_zigzag(struct thrift_take *t) {
    uint64_t v = thrift_take_varint(t);
    return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

bool thrift_take_field(struct thrift_take *t, int16_t *id, enum thrift_type *type) {
    uint8_t head = take_byte(t);
    if (t->bad || head == THRIFT_STOP) {
        return false;
    }
    int64_t next = head >> 4 ? *id + (head >> 4) : take_zigzag(t);
    *type = (enum thrift_type)(head & 15);
    if (t->bad || *type == THRIFT_STOP || next < INT16_MIN || next > INT16_MAX) {
        t->bad = true;
        return false;
    }
    *id = (int16_t)next;
    return true;
}

int64_t thrift_take_i64(struct thrift_take *t, enum thrift_type type) {
    switch (type) {
    case THRIFT_BYTE:
        return (int8_t)take_byte(t);
    case THRIFT_I16:
    case THRIFT_I32:
    case THRIFT_I64:
        return take_zigzag(t);
    default:
        t->bad = true;
        return 0;
    }
}

int32_t thrift_take_i32(struct thrift_take *t, enum thrift_type type) {
    int64_t v = thrift_take_i64(t, type);
    if (v < INT32_MIN || v > INT32_MAX) {
        t->bad = true;
        return 0;
    }
    return (int32_t)v;
}

bool thrift_take_bool(struct thrift_take *t, enum thrift_type type) {
    t->bad |= type != THRIFT_TRUE && type != THRIFT_FALSE;
    return type == THRIFT_TRUE && !t->bad;
}

const uint8_t *thrift_take_binary(struct thrift_take *t, enum thrift_type type, size_t *len) {
    t->bad |= type != THRIFT_BINARY;
    uint64_t n = thrift_take_varint(t);
    const uint8_t *p = t->at;
    pass(t, n);
    *len = t->bad ? 0 : (size_t)n;
    return p;
}

void thrift_take_struct(struct thrift_take *t, enum thrift_type type) {
    t->bad |= type != THRIFT_STRUCT;
}

/* Header of a list or set. */
static uint32_t take_list_head(struct thrift_take *t, enum thrift_type *element) {
    uint8_t head = take_byte(t);
    uint64_t count = head >> 4;
    *element = (enum thrift_type)(head & 15);
    if (count == 15) {
        count = thrift_take_varint(t);
    }
    if (t->bad || count > left(t)) { /* an element has a byte at least */
        t->bad = true;
        return 0;
    }
    return (uint32_t)count;
}

uint32_t thrift_take_list(struct thrift_take *t, enum thrift_type type, enum thrift_type element) {
    enum thrift_type is = THRIFT_STOP;
    t->bad |= type != THRIFT_LIST;
    uint32_t count = take_list_head(t, &is);
    t->bad |= count > 0 && is != element;
    return t->bad ? 0 : count;
}

/* What a value that is being skipped still has: fields up to a stop, or so many elements. */
struct skip_level {
    bool structure;
    enum thrift_type even, odd; /* of elements; a map's keys and values take turns */
    uint64_t left;
};

/* A scalar is passed over; of anything else its head, and *down is what follows. */
static bool skip_one(struct thrift_take *t, enum thrift_type type, bool field,
                     struct skip_level *down) {
    switch (type) {
    case THRIFT_TRUE:
    case THRIFT_FALSE:
        pass(t, field ? 0 : 1);
        return false;
    case THRIFT_BYTE:
        pass(t, 1);
        return false;
    case THRIFT_I16:
    case THRIFT_I32:
    case THRIFT_I64:
        thrift_take_varint(t);
        return false;
    case THRIFT_DOUBLE:
        pass(t, 8);
        return false;
    case THRIFT_UUID:
        pass(t, 16);
        return false;
    case THRIFT_BINARY:
        pass(t, thrift_take_varint(t));
        return false;
    case THRIFT_LIST:
    case THRIFT_SET:
        *down = (struct skip_level){ .structure = false };
        down->left = take_list_head(t, &down->even);
        down->odd = down->even;
        return true;
    case THRIFT_MAP: {
        *down = (struct skip_level){ .structure = false };
        uint64_t pairs = thrift_take_varint(t);
        if (pairs > left(t)) {
            t->bad = true;
        } else if (pairs > 0) {
            uint8_t types = take_byte(t);
            down->even = (enum thrift_type)(types >> 4);
            down->odd = (enum thrift_type)(types & 15);
            down->left = 2 * pairs;
        }
        return true;
    }
    case THRIFT_STRUCT:
        *down = (struct skip_level){ .structure = true };
        return true;
    default:
        t->bad = true;
        return false;
    }
}

void thrift_take_skip(struct thrift_take *t, enum thrift_type type) {
    struct skip_level levels[THRIFT_SKIP_DEPTH_MAX];
    unsigned depth = skip_one(t, type, true, &levels[0]) ? 1 : 0;
    while (depth > 0 && !t->bad) {
        struct skip_level *now = &levels[depth - 1];
        bool field = now->structure;
        if (field) {
            int16_t id = 0; /* ids of what is skipped do not matter */
            if (!thrift_take_field(t, &id, &type)) {
                depth--;
                continue;
            }
        } else {
            if (now->left == 0) {
                depth--;
                continue;
            }
            type = now->left % 2 == 0 ? now->even : now->odd;
            now->left--;
        }
        struct skip_level down;
        if (skip_one(t, type, field, &down)) {
            if (depth == THRIFT_SKIP_DEPTH_MAX) {
                t->bad = true;
                return;
            }
            levels[depth++] = down;
        }
    }
}
