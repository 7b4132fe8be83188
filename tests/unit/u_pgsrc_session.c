/* Which logins are local, so that TLS may go unverified by default. */
#include <stdlib.h>

#include "connectors/postgres/session.h"
#include "tests/unit/kit.h"

static bool local(const char *hosts, const char *key, const char *value) {
    const char *const extra[] = { key, value, NULL };
    return pgsrc_login_is_local(&(struct pgsrc_login){ .hosts = hosts, .extra = extra });
}

TEST(pgsrc_login_local_by_its_hosts) {
    EXPECT_TRUE(local(NULL, NULL, NULL) && local("", NULL, NULL));
    EXPECT_TRUE(local("localhost:5433,127.0.0.2,[::1]:1", NULL, NULL));
    EXPECT_TRUE(!local("localhost,db.example.com", NULL, NULL));
    EXPECT_TRUE(!local("127.0.0.1.example.com", NULL, NULL));
}

TEST(pgsrc_login_local_by_libpqs_own_keys) {
    EXPECT_TRUE(!local(NULL, "host", "db.example.com"));
    EXPECT_TRUE(!local("localhost", "host", "localhost,db.example.com"));
    EXPECT_TRUE(local("db.example.com", "host", "/run/postgresql"));
    EXPECT_TRUE(!local("localhost", "hostaddr", "192.0.2.1"));
    EXPECT_TRUE(local("db.example.com", "hostaddr", "127.0.0.1,::1"));
    EXPECT_TRUE(!local("localhost", "service", "elsewhere"));
    EXPECT_TRUE(local("localhost", "port", "5433"));
}

TEST(pgsrc_login_local_by_the_environment) {
    setenv("PGHOST", "db.example.com", 1);
    EXPECT_TRUE(!local(NULL, NULL, NULL));
    EXPECT_TRUE(local("localhost", NULL, NULL));
    setenv("PGHOST", "/run/postgresql", 1);
    EXPECT_TRUE(local(NULL, NULL, NULL));
    unsetenv("PGHOST");
    setenv("PGHOSTADDR", "192.0.2.1", 1);
    EXPECT_TRUE(!local("localhost", NULL, NULL));
    unsetenv("PGHOSTADDR");
}
