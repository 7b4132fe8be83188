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

TEST(pgsrc_session_refuses_values_that_no_retry_mends) {
    static const char *const bad[][3] = {
        { "127.0.0.1:x", "user", "u" },
        { "127.0.0.1:70000", "user", "u" },
        { "127.0.0.1:1", "sslmode", "maybe" },
        { "127.0.0.1:1", "keepalives", "soon" },
        { "127.0.0.1:1,127.0.0.2:2", "port", "1,2,3" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *const extra[] = { bad[i][1], bad[i][2], NULL };
        const struct pgsrc_login login = { .hosts = bad[i][0], .extra = extra, .application = "t" };
        struct pgsrc_session *session;
        struct err err = ERR_INIT;
        EXPECT_EQ_INT(pgsrc_session_open(&login, &session, &err), -1);
        EXPECT_EQ_INT(err.kind, ERR_FATAL);
        EXPECT_EQ_STR(err.code, "option_value");
        EXPECT_EQ_INT(err.exit, EXIT_USAGE);
    }
}
