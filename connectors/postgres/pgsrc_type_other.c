/* The server's text of small types that the change model keeps as text, made from their binary
 * form, so that such a column does not force the whole stream into text. Only types whose text is
 * short, certain and the same in every supported server version are here; the models are
 * PostgreSQL's *out functions. Pure; thread: any. */
#include <stdio.h>

#include "connectors/postgres/pgsrc_plan.h"

enum { OTHER_TEXT_MAX = 64, FAMILY_V4 = 2, FAMILY_V6 = 3, V6_WORDS = 8 };

size_t pgsrc_put_lsn(uint64_t lsn, uint8_t *out) {
    char text[OTHER_TEXT_MAX];
    int n = snprintf(text, sizeof(text), "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
    memcpy(out, text, (size_t)n);
    return (size_t)n;
}

/* The address with the longest run of two or more zero words as "::", and the last two words of
 * embedded IPv4 addresses dotted. */
static int put_v6(char *out, size_t cap, const uint8_t *p) {
    unsigned words[V6_WORDS];
    for (int i = 0; i < V6_WORDS; i++) {
        words[i] = pgsrc_be16(p + 2 * i);
    }
    int best = -1;
    int best_len = 1;
    for (int i = 0; i < V6_WORDS; i++) {
        int len = 0;
        while (i + len < V6_WORDS && words[i + len] == 0) {
            len++;
        }
        if (len > best_len) {
            best = i;
            best_len = len;
        }
        i += len;
    }
    int n = 0;
    for (int i = 0; i < V6_WORDS; i++) {
        if (best >= 0 && i >= best && i < best + best_len) {
            n += i == best ? snprintf(out + n, cap - (size_t)n, ":") : 0;
            continue;
        }
        n += i > 0 ? snprintf(out + n, cap - (size_t)n, ":") : 0;
        if (i == 6 && best == 0 && (best_len == 6 || (best_len == 5 && words[5] == 0xffff))) {
            return n +
                   snprintf(out + n, cap - (size_t)n, "%u.%u.%u.%u", p[12], p[13], p[14], p[15]);
        }
        n += snprintf(out + n, cap - (size_t)n, "%x", words[i]);
    }
    if (best >= 0 && best + best_len == V6_WORDS) {
        n += snprintf(out + n, cap - (size_t)n, ":");
    }
    return n;
}

/* inet_send: family, prefix bits, is it a cidr, size of the address, address. */
static int put_inet(char *out, size_t cap, const uint8_t *p, size_t len) {
    if (len < 4 || p[2] > 1 || len != 4 + (size_t)p[3]) {
        return -1;
    }
    bool v4 = p[0] == FAMILY_V4 && p[3] == 4 && p[1] <= 32;
    bool v6 = p[0] == FAMILY_V6 && p[3] == 16 && p[1] <= 128;
    if (!v4 && !v6) {
        return -1;
    }
    int n =
        v4 ? snprintf(out, cap, "%u.%u.%u.%u", p[4], p[5], p[6], p[7]) : put_v6(out, cap, p + 4);
    if (p[2] || p[1] != (v4 ? 32 : 128)) {
        n += snprintf(out + n, cap - (size_t)n, "/%u", p[1]);
    }
    return n;
}

static int put_mac(char *out, size_t cap, const uint8_t *p, size_t len) {
    int n = 0;
    for (size_t i = 0; i < len; i++) {
        n += snprintf(out + n, cap - (size_t)n, "%s%02x", i ? ":" : "", p[i]);
    }
    return n;
}

int pgsrc_other_binary(enum pgsrc_decode decode, const uint8_t *p, size_t len, uint8_t *out,
                       size_t *used) {
    char text[OTHER_TEXT_MAX];
    int n = -1;
    switch (decode) {
    case DECODE_XID:
        n = snprintf(text, sizeof(text), "%u", pgsrc_be32(p));
        break;
    case DECODE_XID8:
        n = snprintf(text, sizeof(text), "%llu", (unsigned long long)pgsrc_be64(p));
        break;
    case DECODE_TID:
        n = snprintf(text, sizeof(text), "(%u,%u)", pgsrc_be32(p), pgsrc_be16(p + 4));
        break;
    case DECODE_LSN:
        *used = pgsrc_put_lsn(pgsrc_be64(p), out);
        return 0;
    case DECODE_INET:
        n = put_inet(text, sizeof(text), p, len);
        break;
    case DECODE_MACADDR:
    case DECODE_MACADDR8:
        n = put_mac(text, sizeof(text), p, len);
        break;
    default:
        break;
    }
    if (n < 0) {
        return -1;
    }
    CHECK((size_t)n < sizeof(text));
    memcpy(out, text, (size_t)n);
    *used = (size_t)n;
    return 0;
}
