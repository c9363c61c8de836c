/* test_recipe.c - texts and tables: the server's vocabulary holds for clients with data of their own, and the run's
 * own for its continuation, whatever has become of the data. */
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/setup.h"
#include "train_test.h"

#include "test.h"

static char folder[64] = "/tmp/cutwire-recipe-XXXXXX";

/* The folder's name; train.tsv and test.tsv with sentences of these words, whose last one tells the class. */
static const char *write_texts(const char *name, const char *const words[6])
{
    static char dir[2][128];
    static int turn;
    turn = !turn;
    snprintf(dir[turn], sizeof dir[turn], "%s/%s", folder, name);
    mkdir(dir[turn], 0777);
    for (int split = 0; split < 2; split++) {
        char path[160];
        snprintf(path, sizeof path, "%s/%s", dir[turn], split ? "test.tsv" : "train.tsv");
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fprintf(f, "sentence\tlabel\n");
        for (int i = 0; i < (split ? 12 : 48); i++)
            fprintf(f, "%s %s %s\t%d\n", words[i % 4], words[(i / 4) % 4], words[4 + i % 2], i % 2);
        fclose(f);
    }
    return dir[turn];
}

static const char *const ours[6] = {"a", "film", "about", "life", "dull", "fine"};
static const char *const theirs[6] = {"this", "film", "of", "caf\xc3\xa9", "fine", "dull"};

static cw_config text_config(const char *dir)
{
    cw_config config = small_config(1, "ms:r=0.9,b=2", "none");
    snprintf(config.data, sizeof config.data, "sst-2@8:%s", dir);
    snprintf(config.model, sizeof config.model, "textcnn");
    config.batch = 16;
    config.train_limit = config.test_limit = 0;
    return config;
}

static char *recipe_of_run(const cw_config *config)
{
    char path[600];
    uint8_t *bytes;
    size_t size;
    cw_error err;
    char *text;
    snprintf(path, sizeof path, "%s/recipe.txt", config->out);
    assert_ok_err(cw_file_read(path, &bytes, &size, &err), err);
    assert_ok_err(cwi_recipe_take(bytes, size, &text, &err), err);
    cw_bytes_free(bytes);
    return text;
}

typedef struct joining {
    cw_config config;
    const char *endpoint;
    cw_status status;
    cw_error err;
} joining;

static void *join(void *arg)
{
    joining *j = arg;
    cw_transport *transport;
    j->status = cw_net_connect(j->endpoint, NULL, &transport, &j->err);
    if (j->status == CW_OK)
        j->status = cw_join(&j->config, NULL, transport, NULL, &j->err);
    if (transport)
        cw_transport_close(&transport, 1000);
    return NULL;
}

/* Serves `server` to one client that trains on all of its own data in `dir`. */
static cw_status serve(const cw_config *server, const char *dir, joining *j, cw_result *result, cw_error *err)
{
    pthread_t thread;
    cw_transport *transport;
    cwi_config_init(&j->config);
    j->config.threads = 1;
    j->config.own_data = true;
    snprintf(j->config.data_dir, sizeof j->config.data_dir, "%s", dir);
    assert_ok_err(cw_net_listen("tcp://127.0.0.1:*", NULL, &transport, err), *err);
    j->endpoint = cw_transport_endpoint(transport);
    assert_int_equal(pthread_create(&thread, NULL, join, j), 0);
    cw_status status = cw_serve(server, transport, NULL, result, err);
    pthread_join(thread, NULL);
    cw_transport_close(&transport, 1000);
    return status;
}

static void clients_take_the_servers_vocabulary(void **state)
{
    (void)state;
    cw_config server = text_config(write_texts("ours", ours)), alone;
    cw_result result;
    cw_error err;
    joining client;
    use_folder(&server, "vocabulary");
    assert_ok_err(serve(&server, write_texts("theirs", theirs), &client, &result, &err), err);
    assert_ok_err(client.status, client.err);
    char *recipe = recipe_of_run(&server);
    assert_non_null(strstr(recipe, "about\n"));
    assert_null(strstr(recipe, "caf")); /* a word of the client's own */

    /* A server without data takes a recipe of old, and is refused without one. */
    alone = text_config("/nowhere");
    snprintf(alone.sample, sizeof alone.sample, "8");
    snprintf(alone.input, sizeof alone.input, "tokens:8");
    alone.classes = 2;
    cwi_setup setup;
    assert_true(cwi_setup_open(&alone, &setup, &err) != CW_OK);
    assert_non_null(strstr(err.message, "--recipe"));
    snprintf(alone.weights, sizeof alone.weights, "%.400s/model.safetensors",
             server.out); /* beside it lies the recipe */
    assert_ok_err(cwi_setup_open(&alone, &setup, &err), err);
    assert_string_equal(setup.recipe, recipe);
    cwi_setup_close(&setup);
    *alone.weights = '\0';
    snprintf(alone.recipe, sizeof alone.recipe, "%.400s/recipe.txt", server.out);
    assert_ok_err(cwi_setup_open(&alone, &setup, &err), err);
    assert_string_equal(setup.recipe, recipe);
    cwi_setup_close(&setup);
    assert_ok_err(serve(&alone, write_texts("theirs", theirs), &client, &result, &err), err);
    assert_ok_err(client.status, client.err);
    cwi_free(recipe);
}

/* 48 and 12 sentences, whatever this machine has elsewhere under the same name. */
static void clients_in_the_process_read_the_folder_that_was_named(void **state)
{
    (void)state;
    cw_config config = text_config(write_texts("named", ours)), elsewhere = config;
    cw_result result;
    cw_error err;
    config.clients = 2;
    assert_ok_err(cw_train_inproc(&config, NULL, &result, &err), err);
    assert_int_equal(result.last.train_samples, 48);
    assert_int_equal(result.last.test_samples, 12);
    snprintf(elsewhere.data_dir, sizeof elsewhere.data_dir, "/nowhere"); /* comes before the other */
    assert_status(cw_train_inproc(&elsewhere, NULL, &result, &err), CW_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nowhere"));
}

static void a_resumed_run_keeps_its_vocabulary(void **state)
{
    (void)state;
    static const char *const other[6] = {"quite", "other", "words", "now", "dull", "fine"};
    cw_config config = text_config(write_texts("kept", ours)), again;
    cw_result result;
    cw_error err;
    use_folder(&config, "kept");
    config.epochs = 1;
    assert_ok_err(cw_train_unsplit(&config, NULL, &result, &err), err);
    char *before = recipe_of_run(&config);
    write_texts("kept", other);
    cwi_config_init(&again);
    assert_ok_err(cw_config_from_run(&again, config.out, &err), err);
    snprintf(again.resume, sizeof again.resume, "%s", config.out);
    snprintf(again.out, sizeof again.out, "%s", config.out);
    again.epochs = 2;
    assert_ok_err(cw_train_unsplit(&again, NULL, &result, &err), err);
    assert_int_equal(result.epochs_done, 2);
    char *after = recipe_of_run(&config), path[600];
    assert_string_equal(before, after);
    snprintf(path, sizeof path, "%s/recipe.txt", config.out);
    unlink(path);
    again.epochs = 3;
    assert_true(cw_train_unsplit(&again, NULL, &result, &err) != CW_OK);
    assert_non_null(strstr(err.message, "recipe.txt"));
    cwi_free(before);
    cwi_free(after);
}

static void a_welcome_brings_the_recipe_byte_by_byte(void **state)
{
    (void)state;
    cw_config config = text_config(write_texts("bytes", ours)), got;
    cwi_setup setup;
    cw_error err;
    uint8_t *blob;
    size_t size;
    char *recipe;
    cwi_classes classes;
    cwi_required required;
    static const char *const names[] = {"no\\", "ye\ns"};
    assert_ok_err(cwi_setup_open(&config, &setup, &err), err);
    assert_int_equal(setup.classes.count, 2);
    cwi_classes_free(&setup.classes);
    assert_ok_err(cwi_classes_copy(names, 2, &setup.classes, &err), err);
    cwi_free(setup.recipe);
    setup.recipe = cwi_strdup("cutwire-recipe 1 tokens 8\n\xff\xfe\ncaf\xc3\n"); /* words cut within a letter */
    assert_ok_err(cwi_welcome_write(&setup, &blob, &size, &err), err);
    cwi_config_init(&got);
    assert_ok_err(cwi_welcome_read(blob, size, &got, &required, &recipe, &classes, &err), err);
    assert_string_equal(recipe, setup.recipe);
    assert_string_equal(got.model, "textcnn");
    assert_true(cwi_classes_equal(&classes, &setup.classes));
    cwi_free(recipe);
    cwi_classes_free(&classes);
    /* The bytes themselves: configuration, 00, recipe, 00, a line for each name. */
    const size_t head = strlen((const char *)blob), body = strlen(setup.recipe);
    assert_int_equal(size, head + 1 + body + 1 + strlen("no\\\\\nye\\ns\n"));
    assert_memory_equal(blob + head + 1, setup.recipe, body + 1);
    assert_memory_equal(blob + head + 1 + body + 1, "no\\\\\nye\\ns\n", size - head - body - 2);
    /* Without one of its parts, or with another zero byte, it is none. */
    assert_status(cwi_welcome_read(blob, head, &got, &required, &recipe, &classes, &err), CW_ERR_PROTOCOL);
    assert_status(cwi_welcome_read(blob, head + 1, &got, &required, &recipe, &classes, &err), CW_ERR_PROTOCOL);
    assert_status(cwi_welcome_read(blob, head + 1 + body, &got, &required, &recipe, &classes, &err), CW_ERR_PROTOCOL);
    blob[size - 2] = '\0';
    assert_status(cwi_welcome_read(blob, size, &got, &required, &recipe, &classes, &err), CW_ERR_CORRUPT);
    assert_null(recipe);
    assert_int_equal(classes.count, 0);
    blob[head + 1] = '\0'; /* no recipe, which a text needs */
    assert_status(cwi_welcome_read(blob, head + 2, &got, &required, &recipe, &classes, &err), CW_ERR_PROTOCOL);
    static const struct {
        const char *text;
        cw_status status;
    } hostile[] = {
        {"{\"mode\":\"sync\",\"requires\":[],\"settings\":{\"out\":\"/tmp\"}}", CW_ERR_PROTOCOL}, /* the client's own */
        {"{\"mode\":\"sync\",\"requires\":[\"magic\"],\"settings\":{}}", CW_ERR_UNSUPPORTED},
        {"{\"mode\":\"sync\",\"requires\":[7],\"settings\":{}}", CW_ERR_UNSUPPORTED},
        {"{\"mode\":\"sync\",\"settings\":{}}", CW_ERR_PROTOCOL},
        {"{\"mode\":7,\"requires\":[],\"settings\":{}}", CW_ERR_PROTOCOL},
        {"[]", CW_ERR_PROTOCOL},
        {"{", CW_ERR_PROTOCOL},
        {"", CW_ERR_PROTOCOL},
    };
    for (size_t i = 0; i < CWI_COUNT(hostile); i++) {
        uint8_t text[200] = {0}; /* two zero bytes, and neither recipe nor classes */
        const size_t length = strlen(hostile[i].text);
        memcpy(text, hostile[i].text, length);
        assert_status(cwi_welcome_read(text, length + 2, &got, &required, &recipe, &classes, &err), hostile[i].status);
    }
    cwi_free(blob);
    cwi_setup_close(&setup);
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_take_the_servers_vocabulary),
        cmocka_unit_test(clients_in_the_process_read_the_folder_that_was_named),
        cmocka_unit_test(a_resumed_run_keeps_its_vocabulary),
        cmocka_unit_test(a_welcome_brings_the_recipe_byte_by_byte),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) != 0 || failed;
}
