/* Job names: see identity.h. The hash is part of what users meet (slot names contain it), so it
 * never changes. Pure. */
#include "config/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/check.h"
#include "cdc/base/map.h"

static const char plain_bytes[] = "abcdefghijklmnopqrstuvwxyz0123456789_";

bool identity_is_plain(const char *name) {
    size_t len = strlen(name);
    return len > 0 && len <= JOB_ID_BYTES_MAX && strspn(name, plain_bytes) == len;
}

void identity_of(const char *name, char out[JOB_ID_BYTES_MAX + 1]) {
    size_t len = strlen(name);
    if (identity_is_plain(name)) {
        memcpy(out, name, len + 1);
        return;
    }
    size_t kept = len < JOB_ID_BYTES_MAX - 7 ? len : JOB_ID_BYTES_MAX - 7;
    for (size_t i = 0; i < kept; i++) {
        char c = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
        out[i] = c != '\0' && strchr(plain_bytes, c) ? c : '_';
    }
    snprintf(out + kept, JOB_ID_BYTES_MAX + 1 - kept, "_%06x",
             (unsigned)(hash_bytes(name, len, 0) & 0xFFFFFF));
}

void identity_of_file(const char *path, char out[JOB_ID_BYTES_MAX + 1]) {
    const char *slash = strrchr(path, '/');
    char *name = xstrdup(slash ? slash + 1 : path);
    size_t len = strlen(name);
    if (len > 5 && strcmp(name + len - 5, ".sync") == 0) {
        name[len - 5] = '\0';
    }
    identity_of(name, out);
    free(name);
}
