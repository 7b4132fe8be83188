/* The hybrid algorithm, case by case: interleavings that random histories meet seldom or never,
 * each in as few steps as it needs. One table of key k, number a and text t unless a case says
 * otherwise. */
#include "tests/unit/hybrid_rig.h"

/* Deletes `count` keys from 1 on, then moves others there without their texts. */
static void delete_and_move(struct rig *g, struct schema *s, int count) {
    struct batch *b = log_rows(g, s, (uint32_t)count * 3);
    for (int k = 1; k <= count; k++) {
        put(b, k, false, ROW_DELETE, (uint32_t)k);
        put(b, 1000 + k, false, ROW_UPDATE_BEFORE, (uint32_t)(count + k));
        put(b, k, false, ROW_UPDATE_AFTER, (uint32_t)(count + k));
    }
    log_give(g, b, true);
}

TEST(hybrid_log_goes_on_when_a_read_table_only_waits_for_a_border) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, false);
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o, piece;
    EXPECT_TRUE(hybrid_next(g->h, &o) && o.whole);
    EXPECT_EQ_INT(view(g, &o, s, 0, 1), CHUNK_GO);
    g->spool_full = true;
    struct batch *b = log_rows(g, s, 4);
    put(b, 5, true, ROW_INSERT, 0);
    log_give(g, b, false); /* the first segment of a transaction that is longer */
    EXPECT_TRUE(hybrid_log_must_wait(g->h));
    EXPECT_EQ_INT(hybrid_piece(g->h, o.id, &piece), PIECE_READ);
    give_rows(g, &o, s, 1, 3, true);
    EXPECT_TRUE(!hybrid_log_must_wait(g->h));
    log_give(g, NULL, true);
    EXPECT_TRUE(hybrid_joined(g->h));
    chunk_order_release(&piece);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
}

TEST(hybrid_a_table_begun_anew_by_too_many_holes_has_none) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, false);
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o, piece;
    EXPECT_TRUE(hybrid_next(g->h, &o));
    delete_and_move(g, s, HOLES_MAX + 2);
    EXPECT_EQ_INT(view(g, &o, s, 1, 1), CHUNK_GO);
    EXPECT_EQ_INT(hybrid_piece(g->h, o.id, &piece), PIECE_READ);
    give_rows(g, &o, s, 1, HOLES_MAX + 3, true);
    struct table *t = table_find(g->h, 77);
    EXPECT_EQ_INT(t->generation, 2);
    EXPECT_EQ_INT(map_count(t->holes), 0);
    chunk_order_release(&piece);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
}

/* A whole table whose rows flow, one of them a hole. */
static struct rig *flowing_with_hole(struct schema *s, struct chunk_order *o) {
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order piece;
    struct err err = ERR_INIT;
    EXPECT_TRUE(hybrid_next(g->h, o));
    delete_and_move(g, s, 1);
    EXPECT_EQ_INT(view(g, o, s, 1, 1), CHUNK_GO);
    EXPECT_EQ_INT(hybrid_piece(g->h, o->id, &piece), PIECE_READ);
    struct batch *b = batch_new(s, 1, NULL);
    put(b, 1, true, ROW_INSERT, 0);
    batch_seal(b);
    EXPECT_EQ_INT(hybrid_rows(g->h, o->id, b, &err), CHUNK_GO);
    EXPECT_EQ_INT(map_count(table_find(g->h, 77)->holes), 1);
    chunk_order_release(&piece);
    return g;
}

TEST(hybrid_a_hole_waits_for_the_end_of_its_whole_table) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, false);
    struct chunk_order o, other = { 0 };
    struct rig *g = flowing_with_hole(s, &o);
    EXPECT_TRUE(!hybrid_next(g->h, &other)); /* its events go with the table's, not to it */
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(hybrid_end(g->h, o.id, true, &err), 0);
    EXPECT_TRUE(hybrid_next(g->h, &other) && other.exact);
    chunk_order_release(&other);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
}

TEST(hybrid_a_restart_forgets_the_holes_of_a_table_that_is_read_anew) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, false);
    struct chunk_order o;
    struct rig *g = flowing_with_hole(s, &o);
    struct buf stored;
    buf_init(&stored, SIZE_MAX);
    buf_putc(&stored, '{');
    EXPECT_EQ_INT(hybrid_put_position(g->h, &stored, 8000), 0);
    buf_putc(&stored, '}');
    chunk_order_release(&o);
    hybrid_free(g->h);
    rig_open(g, s, 1, buf_cstr(&stored));
    rig_catalogue(g, &s, 1, 1);
    struct table *t = table_find(g->h, 77);
    EXPECT_EQ_INT(t->generation, 2);
    EXPECT_EQ_INT(map_count(t->holes), 0);
    EXPECT_TRUE(hybrid_next(g->h, &o) && o.whole);
    chunk_order_release(&o);
    buf_release(&stored);
    rig_free(g);
    schema_unref(s);
}

TEST(hybrid_a_restart_remembers_what_the_catalogue_has_not_confirmed) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct rig *g = rig_new(s, 1, 1);
    struct buf stored;
    buf_init(&stored, SIZE_MAX);
    hybrid_free(g->h);
    rig_open(g, s, 1, "{\"tables\":{\"through\":\"77\",\"except\":[]},\"loose\":\"\"}");
    table_find(g->h, 77)->unverified = true; /* as after a row of another shape */
    buf_putc(&stored, '{');
    EXPECT_EQ_INT(hybrid_put_position(g->h, &stored, 8000), 0);
    buf_putc(&stored, '}');
    hybrid_free(g->h);
    rig_open(g, s, 1, buf_cstr(&stored));
    EXPECT_TRUE(!table_consistent(table_find(g->h, 77)) && !hybrid_shape_changed(g->h, false));
    rig_catalogue(g, &s, 1, 1);
    EXPECT_TRUE(table_consistent(table_find(g->h, 77)));
    EXPECT_TRUE(hybrid_shape_changed(g->h, false)); /* a commit says so */
    buf_release(&stored);
    rig_free(g);
    schema_unref(s);
}

TEST(hybrid_rows_before_a_new_generation_belong_to_the_old_one) {
    struct schema *s = table_schema(77, "m", TYPE_FLOAT64, 0, true);
    struct rig *g = rig_new(s, 1, 1);
    join_some(g, s);
    g->out_count = 0;
    struct batch *b = log_rows(g, s, 8);
    put(b, -5, true, ROW_INSERT, 0);
    put(b, 50, false, ROW_UPDATE_BEFORE, 1); /* a key that cannot be a hole: read anew */
    put(b, -6, false, ROW_UPDATE_AFTER, 1);
    log_give(g, b, true);
    EXPECT_EQ_INT(table_find(g->h, 77)->generation, 2);
    EXPECT_EQ_INT(g->out_count, 1);
    EXPECT_EQ_INT(g->out[0].generation, 1);
    rig_free(g);
    schema_unref(s);
}

TEST(hybrid_a_range_that_is_read_again_has_no_holes) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    EXPECT_TRUE(hybrid_next(g->h, &o));
    delete_and_move(g, s, HOLES_MAX + 2);
    EXPECT_EQ_INT(view(g, &o, s, 1, 1), CHUNK_GO);
    give_rows(g, &o, s, 1, HOLES_MAX + 3, true);
    struct table *t = table_find(g->h, 77);
    EXPECT_EQ_INT(t->again.count, 1);
    EXPECT_EQ_INT(map_count(t->holes), 0);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
}

TEST(hybrid_a_table_that_is_being_cut_is_not_opened) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct rig *g = rig_new(s, 4, UINT64_C(1) << 30);
    struct chunk_order cut, o = { 0 };
    EXPECT_TRUE(hybrid_next(g->h, &cut) && cut.cut);
    rig_catalogue(g, &s, 1, 10); /* smaller, the statistics say meanwhile */
    EXPECT_TRUE(!hybrid_next(g->h, &o));
    hybrid_cut(g->h, cut.id, NULL, 0, 1);
    EXPECT_TRUE(hybrid_next(g->h, &o) && !o.cut);
    chunk_order_release(&cut);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
}

TEST(hybrid_a_key_that_comes_in_the_log_ends_a_keyless_chunk) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, -1, false);
    struct schema *keyed = table_schema(77, "m", TYPE_INT32, 0, true);
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    EXPECT_TRUE(hybrid_next(g->h, &o));
    struct batch *b = log_rows(g, keyed, 1);
    put(b, 1, true, ROW_INSERT, 0);
    log_give(g, b, true);
    EXPECT_EQ_INT(g->h->chunk_count, 0);
    EXPECT_TRUE(hybrid_wants_catalogue(g->h, false));
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
    schema_unref(keyed);
}

TEST(hybrid_another_key_begins_the_reading_anew) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *other = table_schema(77, "m", TYPE_INT32, 1, true);
    struct rig *g = rig_new(s, 1, 1);
    join_some(g, s);
    rig_catalogue(g, &other, 1, 1);
    struct table *t = table_find(g->h, 77);
    EXPECT_EQ_INT(t->joined.count, 0);
    EXPECT_EQ_INT(t->generation, 2);
    rig_free(g);
    schema_unref(s);
    schema_unref(other);
}

TEST(hybrid_a_column_that_was_dropped_and_came_back_is_read_anew) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *without = schema_new(77, "public", "m", 2); /* t was dropped, and polled so */
    memcpy(without->columns, s->columns, 2 * sizeof(*s->columns));
    without->storage = "1:a";
    schema_finish(without);
    struct rig *g = rig_new(s, 1, 1);
    join_some(g, s);
    struct table *t = table_find(g->h, 77);
    rig_catalogue(g, &without, 1, 1);
    EXPECT_EQ_INT(t->generation, 1); /* a dropped column alone changes no row */
    rig_catalogue(g, &s, 1, 1);
    EXPECT_EQ_INT(t->generation, 2);
    EXPECT_EQ_INT(t->joined.count, 0);
    rig_free(g);
    schema_unref(s);
    schema_unref(without);
}

TEST(hybrid_a_new_column_that_the_log_showed_first_did_not_come_back) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *without = schema_new(77, "public", "m", 2); /* t was dropped, and polled so */
    struct schema *added = schema_new(77, "public", "m", 3);   /* u is new */
    memcpy(without->columns, s->columns, 2 * sizeof(*s->columns));
    memcpy(added->columns, s->columns, 3 * sizeof(*s->columns));
    added->columns[2].name = "u";
    without->storage = added->storage = "1:a";
    schema_finish(without);
    schema_finish(added);
    struct rig *g = rig_new(s, 1, 1);
    join_some(g, s);
    struct table *t = table_find(g->h, 77);
    rig_catalogue(g, &without, 1, 1);
    schema_unref(t->current);
    t->current = schema_with_version(added, 2); /* as the log has it by now */
    rig_catalogue(g, &added, 1, 1);
    EXPECT_EQ_INT(t->generation, 1);
    EXPECT_TRUE(t->joined.count > 0);
    rig_free(g);
    schema_unref(s);
    schema_unref(without);
    schema_unref(added);
}

/* One row of the log under another key; which generation the table is then in. */
static uint32_t generation_after_key_change(enum table_identity identity) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *other = table_schema(77, "m", TYPE_INT32, 1, true);
    other->identity = identity;
    struct rig *g = rig_new(s, 1, 1);
    hybrid_free(g->h);
    rig_open(g, s, 1, "{\"tables\":{\"through\":\"77\",\"except\":[]},\"loose\":\"\"}");
    rig_catalogue(g, &s, 1, 1);
    struct batch *b = log_rows(g, other, 1);
    put(b, 1, true, ROW_INSERT, 0);
    log_give(g, b, true);
    struct table *t = table_find(g->h, 77);
    uint32_t generation = t->generation;
    EXPECT_EQ_INT(t->complete, generation == 1);
    rig_free(g);
    schema_unref(s);
    schema_unref(other);
    return generation;
}

TEST(hybrid_a_key_that_the_log_does_not_say_reads_the_table_anew) {
    EXPECT_EQ_INT(generation_after_key_change(IDENTITY_FULL), 2);
    EXPECT_EQ_INT(generation_after_key_change(IDENTITY_NOTHING), 2);
    EXPECT_EQ_INT(generation_after_key_change(IDENTITY_KEY), 1);
    EXPECT_EQ_INT(generation_after_key_change(IDENTITY_INDEX), 1);
}

TEST(hybrid_tables_that_change_names_do_not_share_one) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *now[] = { table_schema(77, "m_old", TYPE_INT32, 0, true),
                             table_schema(78, "m", TYPE_INT32, 0, true) };
    struct rig *g = rig_new(s, 1, 1);
    join_some(g, s);
    rig_catalogue(g, now, 2, 1);
    EXPECT_TRUE(table_find(g->h, 77)->gone);
    EXPECT_EQ_INT(table_find(g->h, 78)->generation, 2);
    rig_catalogue(g, now, 2, 1);
    EXPECT_TRUE(!table_find(g->h, 77)->gone);
    EXPECT_EQ_STR(table_find(g->h, 77)->current->label, "public.m_old");
    EXPECT_EQ_STR(table_find(g->h, 78)->current->label, "public.m");
    EXPECT_EQ_INT(table_find(g->h, 77)->generation, 2);
    rig_free(g);
    schema_unref(s);
    schema_unref(now[0]);
    schema_unref(now[1]);
}

TEST(hybrid_lanes_are_told_the_name_that_a_table_has_now) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *renamed = table_schema(77, "m_old", TYPE_INT32, 0, true);
    struct schema *again = table_schema(77, "m_older", TYPE_INT32, 0, true);
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    EXPECT_TRUE(hybrid_next(g->h, &o));
    /* The lane found and locked it under its new name, but would read the old one. */
    EXPECT_EQ_INT(view(g, &o, renamed, 0, 1), CHUNK_DROP);
    chunk_order_release(&o);
    EXPECT_TRUE(hybrid_next(g->h, &o));
    EXPECT_EQ_STR(o.schema->label, "public.m_old");
    EXPECT_EQ_INT(view(g, &o, renamed, 0, 1), CHUNK_GO);
    give_rows(g, &o, s, 1, 11, false);
    chunk_order_release(&o);
    rig_catalogue(g, &again, 1, 1);
    EXPECT_TRUE(hybrid_next(g->h, &o));
    EXPECT_EQ_STR(o.schema->label, "public.m_older");
    EXPECT_EQ_INT(table_find(g->h, 77)->generation, 1);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
    schema_unref(renamed);
    schema_unref(again);
}

TEST(hybrid_a_key_that_gets_another_order_begins_the_reading_anew) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *collated = table_schema(77, "m", TYPE_INT32, 0, false);
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    join_some(g, s);
    rig_catalogue(g, &collated, 1, 1);
    EXPECT_EQ_INT(table_find(g->h, 77)->generation, 2);
    EXPECT_TRUE(hybrid_next(g->h, &o) && o.whole);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
    schema_unref(collated);
}

TEST(hybrid_only_a_catalogue_that_was_asked_for_verifies_a_definition) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *wider = table_schema(77, "m", TYPE_INT32, 0, true);
    wider->columns[1].name = "b";
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    const char *const *labels;
    EXPECT_TRUE(hybrid_next(g->h, &o));
    EXPECT_EQ_INT(view(g, &o, s, 0, 1), CHUNK_GO);
    give_rows(g, &o, s, 1, 3, true);
    EXPECT_EQ_INT(hybrid_inconsistent(g->h, &labels), 0);
    struct batch *b = log_rows(g, wider, 1);
    put(b, 7, true, ROW_INSERT, 0);
    log_give(g, b, true);
    EXPECT_EQ_INT(hybrid_inconsistent(g->h, &labels), 1);
    rig_catalogue(g, &s, 1, 1); /* a poll's, read before the ALTER */
    EXPECT_EQ_INT(hybrid_inconsistent(g->h, &labels), 1);
    EXPECT_TRUE(hybrid_wants_catalogue(g->h, true));
    rig_catalogue(g, &wider, 1, 1);
    EXPECT_EQ_INT(hybrid_inconsistent(g->h, &labels), 0);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
    schema_unref(wider);
}

TEST(hybrid_what_waits_for_a_whole_table_has_a_limit_that_spilling_does_not_move) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, -1, false);
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    EXPECT_TRUE(hybrid_next(g->h, &o));
    EXPECT_EQ_INT(view(g, &o, s, 0, 1), CHUNK_GO);
    struct batch *b = log_rows(g, s, 1);
    for (uint64_t id = 1000; id < 2000; id++) { /* those of other tables */
        txlist_add(b->txs, &(struct tx){ .id = id });
    }
    put(b, 1, true, ROW_INSERT, 0);
    log_give(g, b, true);
    EXPECT_EQ_INT(g->h->chunks[0]->later.slots[0].txs->count, 1);
    g->h->config.held_bytes_max = 2000;
    int segments = 0;
    for (; segments < 500 && !hybrid_log_must_wait(g->h); segments++) {
        b = log_rows(g, s, 1);
        put(b, 1, true, ROW_INSERT, 0);
        log_give(g, b, true);
    }
    EXPECT_TRUE(segments > 10 && segments < 100);
    EXPECT_TRUE(g->spool_puts > 10);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
}

TEST(hybrid_on_rewrite_stop_stops_for_a_rewrite_that_a_lane_meets) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *rewritten = table_schema(77, "m", TYPE_INT32, 0, true);
    rewritten->storage = "2:a";
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    struct err err = ERR_INIT;
    g->h->config.source = &moving;
    g->h->config.rewrite_stops = true;
    join_some(g, s);
    EXPECT_TRUE(hybrid_next(g->h, &o));
    EXPECT_EQ_INT(view(g, &o, rewritten, 0, 1), CHUNK_DROP);
    EXPECT_TRUE(hybrid_wants_catalogue(g->h, true));
    struct source_table table = { .schema = rewritten, .usable = true };
    struct source_catalogue cat = { .tables = &table, .count = 1 };
    EXPECT_EQ_INT(hybrid_catalogue(g->h, &cat, &err), -1);
    EXPECT_EQ_STR(err.code, "table_rewritten");
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
    schema_unref(rewritten);
}

/* As a target that cannot make a text of integers. */
static bool no_texts(const struct sink *s TR_UNUSED, const struct schema *before,
                     const struct schema *after) {
    return !type_equal(&before->columns[1].type, &after->columns[1].type);
}
static const struct sink_ops stiff_ops = { .name = "stiff", .needs_anew = no_texts };
static const struct sink stiff = { .ops = &stiff_ops };

static struct schema *retyped_schema(void) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    s->columns[1].type.kind = TYPE_TEXT;
    return s;
}

TEST(hybrid_a_table_begins_anew_where_the_target_cannot_follow_the_log) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *retyped = retyped_schema();
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    g->h->config.sink = &stiff;
    join_some(g, s);
    g->out_count = 0;
    struct batch *b = log_rows(g, retyped, 2);
    put(b, 3, true, ROW_INSERT, 0);
    log_give(g, b, true);
    const struct table *t = table_find(g->h, 77);
    EXPECT_EQ_INT(t->generation, 2);
    EXPECT_TRUE(!t->begun && !t->complete && t->joined.count == 0);
    EXPECT_EQ_INT(g->out_count, 0); /* what the target has stays as it was */
    EXPECT_TRUE(hybrid_wants_catalogue(g->h, true));
    /* The new generation goes out with the new shape, once; its later rows begin nothing. */
    rig_catalogue(g, &retyped, 1, 1);
    EXPECT_TRUE(hybrid_next(g->h, &o));
    EXPECT_EQ_INT(view(g, &o, retyped, 0, g->at + 1), CHUNK_GO);
    give_rows(g, &o, retyped, 1, 11, true);
    chunk_order_release(&o);
    EXPECT_EQ_INT(t->generation, 2);
    EXPECT_TRUE(t->begun && t->complete);
    b = log_rows(g, retyped, 2);
    put(b, 30, true, ROW_INSERT, 0);
    log_give(g, b, true);
    EXPECT_EQ_INT(t->generation, 2);
    rig_free(g);
    schema_unref(s);
    schema_unref(retyped);
}

TEST(hybrid_on_rewrite_stop_stops_where_the_target_cannot_follow_the_log) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *retyped = retyped_schema();
    struct rig *g = rig_new(s, 1, 1);
    struct err err = ERR_INIT;
    g->h->config.sink = &stiff;
    g->h->config.rewrite_stops = true;
    join_some(g, s);
    struct batch *b = log_rows(g, retyped, 2);
    put(b, 3, true, ROW_INSERT, 0);
    struct segment *seg = segment_new();
    seg->txs = txlist_ref(b->txs);
    segment_add(seg, b);
    seg->to = seg->resume = (struct logpos){ 0, g->at };
    seg->at_border = true;
    EXPECT_EQ_INT(hybrid_segment(g->h, seg, &err), -1);
    EXPECT_EQ_STR(err.code, "table_rewritten");
    rig_free(g);
    schema_unref(s);
    schema_unref(retyped);
}

TEST(hybrid_a_catalogue_older_than_what_a_lane_saw_changes_nothing) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *rewritten = table_schema(77, "m", TYPE_INT32, 0, true);
    rewritten->storage = "2:a";
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    g->h->config.source = &moving;
    join_some(g, s);
    EXPECT_TRUE(hybrid_next(g->h, &o));
    EXPECT_EQ_INT(view(g, &o, rewritten, 9, 1), CHUNK_DROP);
    rig_catalogue(g, &s, 1, 1); /* was under way; as of an earlier end of the log */
    EXPECT_EQ_STR(table_find(g->h, 77)->definition->storage, "2:a");
    EXPECT_EQ_INT(table_find(g->h, 77)->generation, 2);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
    schema_unref(rewritten);
}

TEST(hybrid_a_dropped_table_ends_where_the_log_drops_it) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct schema *next = table_schema(78, "m", TYPE_INT32, 0, true);
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    uint64_t id;
    EXPECT_TRUE(hybrid_next(g->h, &o));
    EXPECT_EQ_INT(view(g, &o, s, 0, 1), CHUNK_GO);
    give_rows(g, &o, s, 1, 3, true);
    chunk_order_release(&o);
    g->at = 2;
    rig_catalogue(g, &next, 1, 1); /* dropped and made again; the log's reader is behind */
    g->at = 0;
    g->out_count = 0;
    struct batch *b = log_rows(g, s, 1);
    put(b, 7, true, ROW_INSERT, 0);
    log_give(g, b, true);
    EXPECT_EQ_INT(g->out_count, 1);
    EXPECT_EQ_INT(hybrid_uncaptured(g->h, &id, 1), 0);
    EXPECT_TRUE(!hybrid_next(g->h, &o));
    g->at = 2;
    log_give(g, NULL, true);
    EXPECT_TRUE(table_find(g->h, 77)->gone);
    EXPECT_TRUE(hybrid_next(g->h, &o));
    EXPECT_EQ_INT(table_find(g->h, 78)->generation, 2);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
    schema_unref(next);
}

TEST(hybrid_rows_out_of_order_between_batches_are_an_error) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o;
    struct err err = ERR_INIT;
    EXPECT_TRUE(hybrid_next(g->h, &o));
    EXPECT_EQ_INT(view(g, &o, s, 0, 1), CHUNK_GO);
    for (int k = 5; k >= 4; k--) {
        struct batch *b = batch_new(s, 1, NULL);
        put(b, k, true, ROW_INSERT, 0);
        batch_seal(b);
        hybrid_rows(g->h, o.id, b, &err);
    }
    EXPECT_EQ_STR(err.code, "key_order");
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
}

/* Tables 1000, 1001, ... that were all read, then read again or dropped. */
static void many_tables(uint32_t count, bool drop) {
    struct rig *g = xcalloc(1, sizeof *g);
    struct schema **schemas = xcalloc(count, sizeof(struct schema *));
    char name[32];
    rig_open(g, NULL, 1, NULL);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "t%u", i);
        schemas[i] = table_schema(1000 + i, name, TYPE_INT32, 0, true);
        struct table *t = table_add(g->h, schemas[i]);
        t->complete = t->begun = true;
        t->generation = i % 3 + 1;
        t->gone = drop;
        spans_add(&t->joined, &(struct buf){ 0 }, &(struct buf){ 0 });
    }
    struct buf stored;
    buf_init(&stored, SIZE_MAX);
    buf_putc(&stored, '{');
    EXPECT_EQ_INT(hybrid_put_position(g->h, &stored, 8000), 0);
    buf_putc(&stored, '}');
    hybrid_free(g->h);
    struct err err = ERR_INIT;
    struct hybrid_config config = { .source = &plain_source,
                                    .metrics = &g->metrics,
                                    .rows_bytes_max = 10,
                                    .chunk_rows = 10,
                                    .chunk_bytes = 10 };
    g->h = hybrid_new(&config, take_out, g);
    EXPECT_EQ_INT(
        hybrid_restore(g->h, LOGPOS_NONE, LOGPOS_NONE, buf_cstr(&stored), schemas, count, &err), 0);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct table *t = table_find(g->h, 1000 + i);
        wrong += t->generation != i % 3 + 1 || t->gone != drop || (!drop && !t->complete);
        schema_unref(schemas[i]);
    }
    EXPECT_EQ_INT(wrong, 0);
    buf_release(&stored);
    free(schemas);
    rig_free(g);
}
TEST(hybrid_a_thousand_tables_read_again_fit_a_position) { many_tables(1000, false); }
TEST(hybrid_a_thousand_dropped_tables_fit_a_position) { many_tables(1000, true); }

TEST(hybrid_opens_nothing_beside_a_flowing_table_when_held_rows_are_at_their_limit) {
    struct schema *s[] = { table_schema(77, "m", TYPE_INT32, 0, false),
                           table_schema(78, "n", TYPE_INT32, 0, true) };
    struct rig *g = rig_new(s[0], 1, 1);
    rig_catalogue(g, s, 2, 1);
    struct chunk_order o, other = { 0 };
    EXPECT_TRUE(hybrid_next(g->h, &o) && o.whole);
    EXPECT_EQ_INT(view(g, &o, s[0], 0, 1), CHUNK_GO);
    g->spool_full = true;
    EXPECT_TRUE(!hybrid_next(g->h, &other));
    EXPECT_TRUE(hybrid_log_must_wait(g->h));
    g->spool_full = false;
    EXPECT_TRUE(hybrid_next(g->h, &other));
    chunk_order_release(&other);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s[0]);
    schema_unref(s[1]);
}

TEST(hybrid_a_key_of_labels_is_no_hole) {
    struct schema *s = table_schema(77, "m", TYPE_ENUM, 0, false);
    struct rig *g = rig_new(s, 1, 1);
    struct chunk_order o, piece;
    EXPECT_TRUE(hybrid_next(g->h, &o));
    delete_and_move(g, s, 1);
    EXPECT_EQ_INT(view(g, &o, s, 1, 1), CHUNK_GO);
    EXPECT_EQ_INT(hybrid_piece(g->h, o.id, &piece), PIECE_READ);
    give_rows(g, &o, s, 1, 2, true);
    EXPECT_EQ_INT(map_count(table_find(g->h, 77)->holes), 0); /* no query finds its row */
    EXPECT_EQ_INT(table_find(g->h, 77)->generation, 2);
    chunk_order_release(&piece);
    chunk_order_release(&o);
    rig_free(g);
    schema_unref(s);
}

TEST(overlay_rows_over_older_ones_share_a_batch) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct rig *g = xcalloc(1, sizeof *g);
    struct overlay *o = overlay_new(&keep_ops, g);
    struct err err = ERR_INIT;
    for (int round = 0; round < 2; round++) {
        struct batch *b = log_rows(g, s, 100);
        for (int k = 0; k < 100; k++) {
            put(b, k, round == 0, ROW_UPDATE_AFTER, 0);
            uint32_t key = (uint32_t)k;
            EXPECT_EQ_INT(overlay_put(o, &key, sizeof key, b, (uint32_t)k, &err), 0);
        }
        batch_unref(b);
        EXPECT_EQ_INT(overlay_spill(o, &err), 0);
    }
    EXPECT_EQ_INT(g->spool_puts, 2);
    overlay_free(o);
    free(g);
    schema_unref(s);
}
