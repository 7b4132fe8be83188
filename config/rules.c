/* Matching of rules. The glob matcher goes back to the last star only, so its time is bounded by
 * the product of the two lengths whatever the pattern. Pure. */
#include "config/rules.h"

#include <string.h>

#include "cdc/base/escape.h"

static size_t character(const char *s) {
    int n = utf8_length((const uint8_t *)s, (const uint8_t *)s + strlen(s));
    return n > 0 ? (size_t)n : 1;
}

bool glob_match(const char *glob, const char *text) {
    const char *star = NULL; /* the glob behind the last star */
    const char *back = NULL; /* where the text goes on if that star takes one character more */
    while (*text) {
        if (*glob == '*') {
            star = ++glob;
            back = text;
        } else if (*glob == '?') {
            glob++;
            text += character(text);
        } else if (*glob == *text) {
            glob++;
            text++;
        } else if (star) {
            back += character(back);
            glob = star;
            text = back;
        } else {
            return false;
        }
    }
    glob += strspn(glob, "*");
    return *glob == '\0';
}

static bool part_matches(const struct pattern_part *part, const char *text) {
    if (!part->text) {
        return true;
    }
    return part->exact ? strcmp(part->text, text) == 0 : glob_match(part->text, text);
}

bool rule_matches(const struct rule *rule, const char *space, const char *name) {
    return part_matches(&rule->name, name) && part_matches(&rule->space, space);
}

void rules_select(const void *job_text, const char *space, const char *name,
                  struct table_choice *out) {
    const struct job_text *t = job_text;
    *out = (struct table_choice){ .skip = false };
    for (uint32_t i = 0; i < t->rule_count; i++) {
        const struct rule *rule = &t->rules[i];
        if (!rule_matches(rule, space, name)) {
            continue;
        }
        switch (rule->action) {
        case RULE_SKIP:
            out->skip = true;
            break;
        case RULE_KEEP:
            out->skip = false;
            break;
        case RULE_APPEND:
            out->append = true;
            break;
        case RULE_KEY:
            out->key = rule->key;
            break;
        }
    }
}

bool rule_keeps_for_nothing(const struct job_text *text, uint32_t index) {
    if (text->rules[index].action != RULE_KEEP) {
        return false;
    }
    for (uint32_t i = 0; i < index; i++) {
        if (text->rules[i].action == RULE_SKIP) {
            return false;
        }
    }
    return true;
}
