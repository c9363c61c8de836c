/* session.c - the server's end: members join, are lost, say things in and out of turn. */
#include <stdio.h>
#include <string.h>

#include "net/transport.h"
#include "session/session.h"

/* ---- life ---- */

cw_status cwi_session_open(cwi_session *s, const cwi_session_options *options, const cwi_work *work, void *run,
                           cw_transport *transport, cw_error *err)
{
    *s = (cwi_session){.options = *options,
                       .work = work,
                       .run = run,
                       .box = {.transport = transport},
                       .aside = {.transport = transport}};
    CWI_TRY(cwi_random_id(&s->id, err));
    s->alone_since = cwi_seconds();
    s->hold_until = s->alone_since + options->hold;
    s->members = cwi_calloc(options->members, sizeof *s->members);
    s->waiting = cwi_calloc(options->members, sizeof *s->waiting);
    s->counts[CWI_MEMBER_VACANT] = options->members;
    s->place_mask = 15;
    while (s->place_mask < 2 * options->members)
        s->place_mask = 2 * s->place_mask + 1;
    s->place_of_peer = cwi_calloc((size_t)s->place_mask + 1, sizeof *s->place_of_peer);
    if (!s->members || !s->waiting || !s->place_of_peer)
        return cwi_fail_memory(err, options->members * sizeof *s->members);
    for (size_t i = 0; options->owners && i < options->members; i++)
        memcpy(s->members[i].owner, options->owners[i], sizeof s->members->owner);
    s->options.owners = NULL;
    return CW_OK;
}

void cwi_session_close(cwi_session *s)
{
    cwi_free(s->members);
    cwi_free(s->waiting);
    cwi_free(s->place_of_peer);
    cwi_outbox_free(&s->box);
    cwi_outbox_free(&s->aside);
    memset(s, 0, sizeof *s);
}

/* ---- members ---- */

static void set_state(cwi_session *s, size_t member, cwi_member_state state)
{
    s->counts[s->members[member].state]--;
    s->counts[state]++;
    s->members[member].state = state;
}

void cwi_session_activate(cwi_session *s)
{
    for (size_t i = 0; i < s->options.members; i++)
        if (s->members[i].state == CWI_MEMBER_READY) {
            set_state(s, i, CWI_MEMBER_ACTIVE);
            s->members[i].awaited = false;
        }
}

void cwi_session_activate_one(cwi_session *s, size_t member)
{
    set_state(s, member, CWI_MEMBER_ACTIVE);
    s->members[member].awaited = false;
    cwi_session_owes_from_now(s, member);
}

static bool has_peer(const cwi_session *s, size_t member, cw_peer peer)
{
    return s->members[member].state != CWI_MEMBER_VACANT && s->members[member].peer == peer;
}

static size_t member_of_peer(const cwi_session *s, cw_peer peer)
{
    uint32_t *last = &s->place_of_peer[(peer ^ peer >> 32) & s->place_mask];
    if (*last && has_peer(s, *last - 1, peer))
        return *last - 1;
    for (size_t i = 0; i < s->options.members; i++)
        if (has_peer(s, i, peer)) {
            *last = (uint32_t)i + 1;
            return i;
        }
    return SIZE_MAX;
}

void cwi_session_owes_from_now(cwi_session *s, size_t member)
{
    cwi_member *m = &s->members[member];
    cwi_link_state link;
    (void)cwi_transport_link(s->box.transport, m->peer, &link);
    m->due_from = cwi_session_clock(s);
    m->moved = link.moved;
}

/* ---- sending ---- */

cw_msg cwi_session_message(const cwi_session *s, size_t member, cw_msg_type type)
{
    return (cw_msg){
        .type = type, .client = member < s->options.members ? (uint32_t)member : UINT32_MAX, .session = s->id};
}

void cwi_session_send(cwi_session *s, size_t member, const cw_msg *msg)
{
    cw_error err;
    const cw_status status = cwi_outbox_send(&s->box, s->members[member].peer, msg, &err);
    if (status != CW_OK)
        cwi_session_lose(s, member, status, err.message);
}

void cwi_session_send_frame(cwi_session *s, size_t member, const void *bytes, size_t size)
{
    cw_error err;
    const cw_status status = cw_transport_send(s->box.transport, s->members[member].peer, bytes, size, &err);
    if (status != CW_OK)
        cwi_session_lose(s, member, status, err.message);
}

/* ---- refusing and losing ---- */

/* Who had the place may take it again. */
static void vacate(cwi_session *s, size_t member)
{
    cwi_member *m = &s->members[member];
    const cwi_member had = *m;
    set_state(s, member, CWI_MEMBER_VACANT);
    *m = (cwi_member){.state = CWI_MEMBER_VACANT, .token = had.token};
    memcpy(m->key, had.key, sizeof m->key);
    memcpy(m->owner, had.owner, sizeof m->owner);
}

/* Where the server knows no half like the members', the first of them says what it is. */
static bool is_first(const cwi_session *s)
{
    return s->options.learn && !s->begun && !cwi_session_count(s, CWI_MEMBER_READY);
}

static void tell(cwi_session *s, cwi_notice notice, cw_peer peer)
{
    (void)cwi_transport_about(s->box.transport, peer, &notice.about);
    s->work->log(s->run, &notice);
}

/* That a client is lost, or a peer (member SIZE_MAX) was refused. */
static void warn(cwi_session *s, const char *name, size_t member, cw_peer peer, const char *what, const char *why)
{
    char sentence[sizeof((cw_error *)0)->message + 60];
    snprintf(sentence, sizeof sentence, "%s: %s", what, why);
    s->refused += member == SIZE_MAX;
    tell(s, (cwi_notice){.warning = true, .name = name, .text = sentence, .member = member}, peer);
}

static void tell_of(cwi_session *s, size_t member, bool warning, const char *name, const char *what)
{
    char sentence[200];
    snprintf(sentence, sizeof sentence, "client %zu: %s", member + 1, what);
    tell(s, (cwi_notice){.warning = warning, .name = name, .text = sentence, .member = member},
         s->members[member].peer);
}

/* Tells a peer what is wrong and hears no more of it. */
static void refuse(cwi_session *s, cw_peer peer, size_t member, cw_status status, const char *why)
{
    cw_msg msg = cwi_session_message(s, member, CW_MSG_ERROR);
    msg.status = status;
    (void)cwi_outbox_send_text(&s->aside, peer, &msg, why, NULL);
    cw_transport_drop(s->box.transport, peer);
}

void cwi_session_lose(cwi_session *s, size_t member, cw_status status, const char *why)
{
    cwi_member *m = &s->members[member];
    if (m->state == CWI_MEMBER_VACANT)
        return;
    const bool was_active = m->state == CWI_MEMBER_ACTIVE; /* those who fail to join must not prolong the wait */
    char who[40];
    snprintf(who, sizeof who, "client %zu is out", member + 1);
    warn(s, "client_lost", member, m->peer, who, why);
    refuse(s, m->peer, member, status ? status : CW_ERR_CLOSED, why);
    vacate(s, member);
    if (is_first(s))
        s->options.fingerprint = 0;
    s->work->lost(s->run, member);
    s->lost_status = status;
    snprintf(s->lost_reason, sizeof s->lost_reason, "client %zu: %s", member + 1, why);
    if (was_active && !cwi_session_count(s, CWI_MEMBER_ACTIVE))
        s->alone_since = cwi_seconds();
}

/* ---- joining ---- */

/* As a key. A token that cannot be made one is nobody's. */
static void name_owner(char owner[41], const char *key, uint64_t token)
{
    cw_key named = {""};
    if (*key)
        memcpy(named.text, key, sizeof named.text);
    else if (!token || cwi_key_of_token(token, &named, NULL) != CW_OK)
        named.text[0] = '\0';
    memcpy(owner, named.text, sizeof named.text);
}

const char *cwi_session_owner(cwi_session *s, size_t member)
{
    cwi_member *m = &s->members[member];
    if (!*m->owner)
        name_owner(m->owner, m->key, m->token);
    return m->owner;
}

/* Known from before this server began anew, and not heard of since. */
static bool is_of_before(const cwi_member *m)
{
    return *m->owner && !*m->key && !m->token;
}

/* Whether it is who has the place, or had it: by its key, or where there is none by its token. */
static bool is_its_own(const cwi_member *m, const cwi_applicant *who)
{
    if (is_of_before(m))
        return strcmp(m->owner, who->owner) == 0;
    if (*who->key)
        return strcmp(m->key, who->key) == 0;
    return who->token && m->token == who->token;
}

static bool is_vacant(const cwi_member *m)
{
    return m->state == CWI_MEMBER_VACANT;
}

/* The place that it has now. */
static size_t place_of(const cwi_session *s, const cwi_applicant *who)
{
    for (size_t i = 0; i < s->options.members; i++)
        if (!is_vacant(&s->members[i]) && is_its_own(&s->members[i], who))
            return i;
    return SIZE_MAX;
}

/* Its owner was not heard yet since this server began anew. */
static bool is_held(const cwi_session *s, size_t place)
{
    return place < s->options.members && is_vacant(&s->members[place]) && is_of_before(&s->members[place]) &&
           cwi_seconds() < s->hold_until;
}

static bool any_is_held(const cwi_session *s)
{
    for (size_t i = 0; i < s->options.members; i++)
        if (is_held(s, i))
            return true;
    return false;
}

static bool is_somebodys(const cwi_member *m)
{
    return m->token || *m->key || *m->owner;
}

/* Its old place for a client that comes back, or where this server has begun anew the one that it says it had; else the
 * first that nobody had, else any vacant one that is not held for another. */
static size_t place_for(const cwi_session *s, const cwi_applicant *who)
{
    size_t fresh = SIZE_MAX, vacant = SIZE_MAX;
    const uint32_t wish = who->wish;
    for (size_t i = 0; i < s->options.members; i++)
        if (is_vacant(&s->members[i]) && is_its_own(&s->members[i], who))
            return i;
    if (wish < s->options.members && is_vacant(&s->members[wish]) && !is_somebodys(&s->members[wish]))
        return wish;
    for (size_t i = s->options.members; i-- > 0;) {
        if (!is_vacant(&s->members[i]) || is_held(s, i))
            continue;
        vacant = i;
        fresh = is_somebodys(&s->members[i]) ? fresh : i;
    }
    return fresh != SIZE_MAX ? fresh : vacant;
}

static void refuse_hello(cwi_session *s, cw_peer peer, cw_status status, const char *why)
{
    warn(s, "client_refused", SIZE_MAX, peer, "refused a client", why);
    refuse(s, peer, SIZE_MAX, status, why);
}

/* It has lost its connection and its memory, or both: the place is its own, and what it was doing is not done. Returns
 * whether the work may wait for it. */
static bool leave_to_itself(cwi_session *s, size_t place)
{
    static const char why[] = "it came back by another connection";
    cwi_member *m = &s->members[place];
    const bool awaited = (m->state == CWI_MEMBER_ACTIVE || m->awaited) && s->work->left;
    tell_of(s, place, false, "client_again", why);
    refuse(s, m->peer, place, CW_ERR_CLOSED, why);
    vacate(s, place);
    if (awaited)
        s->work->left(s->run, place);
    else
        s->work->lost(s->run, place);
    return awaited;
}

static void welcome(cwi_session *s, size_t place, const cwi_applicant *who, bool awaited)
{
    cwi_member *m = &s->members[place];
    s->changes += !is_its_own(m, who) || is_of_before(m);
    set_state(s, place, CWI_MEMBER_JOINING);
    *m = (cwi_member){.state = CWI_MEMBER_JOINING, .peer = who->peer, .token = who->token, .awaited = awaited};
    memcpy(m->key, who->key, sizeof m->key);
    cwi_session_owes_from_now(s, place);
    cw_msg msg = cwi_session_message(s, place, CW_MSG_WELCOME);
    msg.version_max = (uint16_t)CWI_MIN((unsigned)who->version, (unsigned)CW_WIRE_VERSION_MAX);
    msg.clients = (uint32_t)s->options.members;
    msg.fingerprint = s->options.fingerprint;
    msg.blob = s->options.welcome;
    msg.blob_size = s->options.welcome_size;
    cwi_session_send(s, place, &msg);
}

/* All places are taken, or held for others: it hears about it when that has changed. */
static void let_wait(cwi_session *s, const cwi_applicant *who)
{
    char sentence[200];
    for (size_t i = 0; i < s->waiting_count; i++)
        if (s->waiting[i].peer == who->peer)
            return;
    if (s->waiting_count == s->options.members) {
        refuse_hello(s, who->peer, CW_ERR_INVALID, "as many clients as there are places wait for one already");
        return;
    }
    s->waiting[s->waiting_count++] = *who;
    snprintf(sentence, sizeof sentence,
             "a client waits: what places are free are held for who had them before this server began anew, "
             "for %.0f s more",
             s->hold_until - cwi_seconds());
    tell(s, (cwi_notice){.name = "client_waits", .text = sentence, .member = SIZE_MAX}, who->peer);
}

/* No place is free for it. */
static void turn_away(cwi_session *s, const cwi_applicant *who)
{
    char why[240];
    if (is_held(s, who->wish)) {
        snprintf(
            why, sizeof why,
            "this is not who had the place of client %u, which is held for that one for %.0f s more: give the key, "
            "or the --identity, that had it, or try again then",
            who->wish + 1, s->hold_until - cwi_seconds());
        refuse_hello(s, who->peer, CW_ERR_INVALID, why);
    } else if (any_is_held(s)) {
        let_wait(s, who);
    } else {
        char places[60] = "the one place of this run is taken";
        if (s->options.members > 1)
            snprintf(places, sizeof places, "all %zu places of this run are taken", s->options.members);
        snprintf(why, sizeof why, "%s%s", places,
                 s->options.keys_are_identities
                     ? ": a client that was here before shows by its key, or --identity, which is its own"
                     : "");
        refuse_hello(s, who->peer, CW_ERR_INVALID, why);
    }
}

static void seat(cwi_session *s, const cwi_applicant *who)
{
    const bool false_claim = is_held(s, who->wish) && !is_its_own(&s->members[who->wish], who);
    const size_t old = place_of(s, who);
    const bool awaited = old != SIZE_MAX && leave_to_itself(s, old);
    const size_t place = old != SIZE_MAX ? old : place_for(s, who);
    if (place == SIZE_MAX) {
        turn_away(s, who);
        return;
    }
    welcome(s, place, who, awaited);
    if (false_claim && !is_vacant(&s->members[place]))
        tell_of(s, place, true, "claim_refused",
                "it asked for a place that is held for another, and got this one instead");
}

static void on_hello(cwi_session *s, const cw_frame *frame, const cw_msg *msg)
{
    char why[200];
    if (msg->version_max < CW_WIRE_VERSION_MIN || msg->version_min > CW_WIRE_VERSION_MAX) {
        snprintf(why, sizeof why,
                 "this server speaks protocol versions %d to %d, the client %u to %u: update the older",
                 CW_WIRE_VERSION_MIN, CW_WIRE_VERSION_MAX, msg->version_min, msg->version_max);
        refuse_hello(s, frame->peer, CW_ERR_VERSION, why);
        return;
    }
    cwi_peer_about about = {.key = ""};
    if (s->options.keys_are_identities)
        (void)cwi_transport_about(s->box.transport, frame->peer, &about);
    cwi_applicant who = {.peer = frame->peer,
                         .token = msg->token,
                         .version = msg->version_max,
                         .wish = msg->client,
                         .told = cwi_seconds()};
    memcpy(who.key, about.key, sizeof who.key);
    for (size_t i = 0; !*who.owner && i < s->options.members; i++)
        if (is_of_before(&s->members[i]))
            name_owner(who.owner, who.key, who.token);
    seat(s, &who);
}

/* Those who wait hear now and then that the server is there; and get what is free when nothing is held any more. */
static void look_after_waiting(cwi_session *s)
{
    static const double interval = 5;
    const bool over = s->waiting_count && !any_is_held(s);
    size_t kept = 0;
    for (size_t i = 0; i < s->waiting_count; i++) {
        cwi_applicant who = s->waiting[i];
        cwi_link_state link;
        if (!cwi_transport_link(s->box.transport, who.peer, &link) || link.broken)
            continue;
        if (over) {
            seat(s, &who);
            continue;
        }
        const cw_msg pong = cwi_session_message(s, SIZE_MAX, CW_MSG_PONG);
        if (cwi_seconds() - who.told > interval) {
            who.told = cwi_seconds();
            if (cwi_outbox_send(&s->box, who.peer, &pong, NULL) != CW_OK)
                continue;
        }
        s->waiting[kept++] = who;
    }
    s->waiting_count = kept;
    if (over && !s->begun)
        s->alone_since = cwi_seconds();
}

static cw_status on_ready(cwi_session *s, size_t member, const cw_msg *msg, cw_error *err)
{
    if (s->members[member].state != CWI_MEMBER_JOINING)
        return cwi_fail(err, CW_ERR_PROTOCOL, "it sent a second %s", cw_msg_name(msg->type));
    if (msg->type != (s->options.learn ? CW_MSG_JOIN : CW_MSG_READY))
        return cwi_fail(err, CW_ERR_PROTOCOL, "it sent %s, this run's clients say %s", cw_msg_name(msg->type),
                        cw_msg_name(s->options.learn ? CW_MSG_JOIN : CW_MSG_READY));
    if (!is_first(s) && msg->fingerprint != s->options.fingerprint)
        return cwi_fail(err, CW_ERR_MISMATCH,
                        "its half of the model is not this run's: use the same version, or the same half");
    CWI_TRY(s->work->admit(s->run, member, msg, err));
    s->options.fingerprint = msg->fingerprint;
    set_state(s, member, CWI_MEMBER_READY);
    const size_t ready = cwi_session_count(s, CWI_MEMBER_READY) + cwi_session_count(s, CWI_MEMBER_ACTIVE);
    char sentence[160], samples[60] = "";
    if (msg->samples) /* to train on */
        snprintf(samples, sizeof samples, " with %llu sample%s", (unsigned long long)msg->samples,
                 msg->samples == 1 ? "" : "s");
    snprintf(sentence, sizeof sentence, "client %zu joined%s (%zu of %zu)", member + 1, samples, ready,
             s->options.members);
    tell(s, (cwi_notice){.name = "client_joined", .text = sentence, .member = member}, s->members[member].peer);
    return s->begun && s->work->joined ? s->work->joined(s->run, member, err) : CW_OK;
}

/* A run that was begun by a server before this one goes on without those who do not come back. */
static bool goes_on_with_some(const cwi_session *s, size_t ready)
{
    char sentence[160];
    if (!s->options.resumed || cwi_seconds() - s->alone_since <= s->options.join_timeout)
        return false;
    snprintf(sentence, sizeof sentence,
             "%zu of %zu clients came back within %g s: going on without the others, who may come later", ready,
             s->options.members, s->options.join_timeout);
    const cwi_notice notice = {.warning = true, .name = "clients_missing", .text = sentence, .member = SIZE_MAX};
    s->work->log(s->run, &notice);
    return true;
}

/* The run begins when all are there; a run that lost everyone goes on with whoever comes back. */
static bool may_begin(const cwi_session *s)
{
    const size_t ready = cwi_session_count(s, CWI_MEMBER_READY);
    if (ready == 0 || cwi_session_count(s, CWI_MEMBER_ACTIVE) || s->work->finished(s->run))
        return false;
    return s->begun || ready == s->options.members || goes_on_with_some(s, ready);
}

static cw_status begin_if_complete(cwi_session *s, cw_error *err)
{
    if (!may_begin(s))
        return CW_OK;
    s->begun = true;
    return s->work->begin(s->run, err);
}

/* ---- frames ---- */

static cw_status dispatch(cwi_session *s, size_t member, const cw_msg *msg, cw_frame *frame, cw_error *err)
{
    switch (msg->type) {
    case CW_MSG_READY:
    case CW_MSG_JOIN:
        return on_ready(s, member, msg, err);
    case CW_MSG_PING: {
        const cw_msg pong = cwi_session_message(s, member, CW_MSG_PONG);
        return cwi_outbox_send(&s->box, s->members[member].peer, &pong, err);
    }
    case CW_MSG_PONG:
        return CW_OK;
    case CW_MSG_LEAVE:
    case CW_MSG_ERROR:
        return cwi_fail(err, msg->status ? msg->status : CW_ERR_CLOSED, "it left: %.*s", (int)msg->blob_size,
                        msg->blob ? (const char *)msg->blob : "");
    default:
        return s->work->take(s->run, member, msg, frame, err);
    }
}

/* Whether the run has come on by it; chatter and refusals are no work. */
static bool handle(cwi_session *s, cw_frame *frame)
{
    cw_error err;
    cw_msg msg;
    const size_t member = member_of_peer(s, frame->peer);
    cw_status status = cw_msg_decode(frame->bytes, frame->size, &msg, &err);
    if (status == CW_OK && msg.type == CW_MSG_HELLO && member == SIZE_MAX) {
        on_hello(s, frame, &msg);
        return false;
    }
    if (member == SIZE_MAX) {
        const char *why = status == CW_OK ? "it is not part of this run: it must say HELLO first" : err.message;
        warn(s, "peer_refused", SIZE_MAX, frame->peer, "refused a peer", why);
        refuse(s, frame->peer, SIZE_MAX, status == CW_OK ? CW_ERR_PROTOCOL : status, why);
        return false;
    }
    if (status == CW_OK && (msg.session != s->id || msg.client != (uint32_t)member))
        status = cwi_fail(&err, CW_ERR_PROTOCOL, "it sent %s of another run or client", cw_msg_name(msg.type));
    if (status == CW_OK)
        status = dispatch(s, member, &msg, frame, &err);
    if (status != CW_OK)
        cwi_session_lose(s, member, status, err.message);
    return status == CW_OK && msg.type != CW_MSG_PING && msg.type != CW_MSG_PONG;
}

/* What to do when nobody is left. */
static cw_status check_alone(const cwi_session *s, cw_error *err)
{
    if (cwi_session_count(s, CWI_MEMBER_ACTIVE) || s->waiting_count || s->work->finished(s->run))
        return CW_OK;
    if (s->lost_status == CW_ERR_DIVERGED && s->begun)
        return cwi_fail(err, CW_ERR_DIVERGED, "training diverged (%s): use a smaller learning rate", s->lost_reason);
    const double waited = cwi_seconds() - s->alone_since, limit = s->options.join_timeout;
    if (waited <= limit)
        return CW_OK;
    if (!s->begun)
        return cwi_fail(err, CW_ERR_TIMEOUT,
                        "%zu of %zu client%s joined within %g s%s%s: --join-timeout at the server lets it wait longer, "
                        "0 without end",
                        cwi_session_count(s, CWI_MEMBER_READY), s->options.members, s->options.members == 1 ? "" : "s",
                        limit, *s->lost_reason ? "; the last that failed was " : "", s->lost_reason);
    return cwi_fail(err, CW_ERR_TIMEOUT,
                    "all clients are lost and none came back within %g s (%s): go on by --resume, and with a longer "
                    "--join-timeout, or 0 to wait without end",
                    limit, s->lost_reason);
}

cw_status cwi_session_go_on(cwi_session *s, cw_error *err)
{
    const double began = cwi_seconds();
    CWI_TRY(s->work->advance(s->run, err));
    CWI_TRY(begin_if_complete(s, err));
    CWI_TRY(check_alone(s, err));
    s->worked += cwi_seconds() - began;
    return CW_OK;
}

void cwi_session_hear(cwi_session *s, cw_frame *frame)
{
    const double began = cwi_seconds();
    if (handle(s, frame)) /* or a peer that says much would hold up the time-outs of all */
        s->worked += cwi_seconds() - began;
    if (frame->owner)
        cw_frame_release(frame);
}

cw_status cwi_session_handle(cwi_session *s, cw_frame *frame, cw_error *err)
{
    cwi_session_hear(s, frame);
    return cwi_session_go_on(s, err);
}

/* ---- the clock ---- */

/* A frame that is on its way is no silence: so many bytes of it, or of what the member is to answer, buy a second. */
enum { BYTES_A_SECOND = 1024 };

/* Its connection is broken: the place of one that takes part is held for a while. */
static void wait_for(cwi_session *s, size_t member, const cwi_link_state *link)
{
    cwi_member *m = &s->members[member];
    const double grace = s->options.grace;
    char why[120];
    if (m->state != CWI_MEMBER_ACTIVE && !m->awaited) {
        cwi_session_lose(s, member, CW_ERR_CLOSED, "its connection broke before it took part");
        return;
    }
    if (cwi_seconds() - link->since > grace) {
        snprintf(why, sizeof why, "its connection broke, and it did not come back within %.0f s", grace);
        cwi_session_lose(s, member, CW_ERR_CLOSED, why);
        return;
    }
    if (!m->broken) {
        snprintf(why, sizeof why, "its connection is broken; its place is held for %.0f s", grace);
        tell_of(s, member, true, "client_broken", why);
    }
    m->broken = true;
    cwi_session_owes_from_now(s, member);
}

static void check_silence(cwi_session *s, size_t member, const cwi_link_state *link)
{
    cwi_member *m = &s->members[member];
    const double limit = s->options.timeout;
    const bool owes =
        m->state == CWI_MEMBER_JOINING || (m->state == CWI_MEMBER_ACTIVE && s->work->owes(s->run, member));
    if (m->broken) {
        tell_of(s, member, false, "client_back", "it is back");
        m->broken = false;
        cwi_session_owes_from_now(s, member);
    }
    if (!owes || cwi_session_owes_for(s, member) <= limit + (double)(link->moved - m->moved) / BYTES_A_SECOND)
        return;
    char why[100];
    snprintf(why, sizeof why, "it sent nothing that was due for %.0f s", limit);
    cwi_session_lose(s, member, CW_ERR_TIMEOUT, why);
}

static void check_member(cwi_session *s, size_t member)
{
    cwi_link_state link;
    if (!cwi_transport_link(s->box.transport, s->members[member].peer, &link))
        cwi_session_lose(s, member, CW_ERR_CLOSED, "its connection was closed");
    else if (link.broken)
        wait_for(s, member, &link);
    else
        check_silence(s, member, &link);
}

/* Those whom the transport has turned away before they could say anything. */
static void tell_refusals(cwi_session *s)
{
    cwi_refusal refusal;
    while (cwi_transport_refused(s->box.transport, &refusal)) {
        char sentence[160], more[60] = "";
        if (refusal.more)
            snprintf(more, sizeof more, ", and %llu more", (unsigned long long)refusal.more);
        snprintf(sentence, sizeof sentence, "refused a handshake: its key is not on the list%s", more);
        cwi_notice notice = {.warning = true, .name = "handshake_refused", .text = sentence, .member = SIZE_MAX};
        snprintf(notice.about.address, sizeof notice.about.address, "%s", refusal.address);
        snprintf(notice.about.key, sizeof notice.about.key, "%s", refusal.key);
        s->refused += 1 + refusal.more;
        s->work->log(s->run, &notice);
    }
}

cw_status cwi_session_tick(cwi_session *s, cw_error *err)
{
    tell_refusals(s);
    for (size_t i = 0; i < s->options.members; i++)
        if (s->members[i].state != CWI_MEMBER_VACANT)
            check_member(s, i);
    look_after_waiting(s);
    if (s->work->time_passed)
        s->work->time_passed(s->run);
    return cwi_session_go_on(s, err);
}

void cwi_session_end(cwi_session *s, cw_status outcome, const char *words)
{
    for (size_t i = 0; i < s->options.members; i++) {
        if (s->members[i].state == CWI_MEMBER_VACANT)
            continue;
        cw_msg msg = cwi_session_message(s, i, outcome == CW_OK ? CW_MSG_END : CW_MSG_ERROR);
        msg.status = outcome;
        (void)cwi_outbox_send_text(&s->box, s->members[i].peer, &msg, words, NULL);
    }
}
