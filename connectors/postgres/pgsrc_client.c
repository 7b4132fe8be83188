/* libpq's keywords, asked of the library that is linked: newer ones know more. */
#include "connectors/postgres/pgsrc_client.h"

#include <libpq-fe.h>
#include <string.h>

bool pgsrc_client_key(const char *key) {
    PQconninfoOption *options = PQconndefaults();
    bool known = false;
    for (PQconninfoOption *o = options; o && o->keyword && !known; o++) {
        known = strcmp(o->keyword, key) == 0;
    }
    PQconninfoFree(options);
    return known;
}
