/* random.c - random numbers from Philox keys.
 *
 * A generator is a tensor u32[2].  A draw computes four words rng_bits(key): the first two are the
 * next key, the other two the key of this draw.  Everything is made of ops, so a trace records it,
 * and the generator, being a handle that is assigned, becomes state of the module. */
#include "frontend/fe.h"

/* The key of a seed: mixed, so that near seeds give far keys (splitmix64's finaliser). */
static ig_tensor *random_new_key(fe_call *c, uint64_t seed) {
    uint64_t z = seed + 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    uint32_t key[2] = {(uint32_t)z, (uint32_t)(z >> 32)};
    int64_t two = 2;
    return fe_leaf(c, IG_u32, 1, &two, key);
}

/* The session's generator. */
static ig_tensor *random_default(fe_call *c) {
    ig_session *s = c->s->session;
    if (s->rng) return s->rng;
    ig_tensor *key = random_new_key(c, 0);
    if (fe_is_poison(key)) return key;
    fe_move(key, &s->stream.kept);
    key->born = 0; /* also when a trace is the first to draw: the generator is not a local of the
                      traced function */
    return s->rng = key;
}

void ig_seed(uint64_t seed) {
    FE_ENTER_OR(NULL, "seed", );
    ig_tensor *rng = random_default(c), *key = random_new_key(c, seed);
    fe_rebind(c, rng, key);
    fe_exit(c);
}

ig_tensor *ig_rng_at(const ig_site *site, uint64_t seed) {
    FE_ENTER(site, "rng");
    return fe_leave(c, random_new_key(c, seed));
}

static ig_tensor *random_words(fe_call *c, ig_tensor *key, ir_width width, const ir_dims *dims) {
    ir_attr_rng attr = {.dims = *dims, .width = (uint8_t)width};
    return fe_op1(c, OP_rng_bits, &attr, key);
}

/* Draw: bits of these dims; the generator moves on. */
static ig_tensor *random_bits(fe_call *c, ig_tensor *rng, ir_width width, const ir_dims *dims) {
    if (!rng) rng = random_default(c);
    if (!fe_is_usable(c, rng, 0)) return fe_poison(c);
    if (rng->dtype != IG_u32 || rng->rank != 1 || rng->dim[0] != 2)
        return fe_error(c, IG_INVALID, "a generator is u32[2], not %s: make it with ig_rng",
                        FE_TYPE(rng));
    ir_dims four = {.n = 1, .d = {4}};
    ig_tensor *words = random_words(c, rng, IR_width_u32, &four);
    ig_tensor *bits =
        random_words(c, fe_is_poison(words) ? words : fe_cut(c, words, 0, 2, 4), width, dims);
    if (fe_is_poison(bits)) return bits;
    ig_tensor *next = fe_cut(c, words, 0, 0, 2);
    fe_rebind(c, rng, next);
    return fe_is_poison(next) ? next : bits;
}

ig_tensor *ig_random_bits_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, ig_dims dims) {
    FE_ENTER(site, "random_bits");
    ir_dims d;
    if (dtype != IG_u32 && dtype != IG_u64)
        return fe_leave(c, fe_error(c, IG_DTYPE, "random bits are u32 or u64"));
    if (!fe_user_dims(c, dims, false, &d)) return fe_leave(c, NULL);
    return fe_leave(c, random_bits(c, rng, dtype == IG_u64 ? IR_width_u64 : IR_width_u32, &d));
}

static ig_tensor *random_shift(fe_call *c, ig_tensor *bits, int by) {
    ir_attr_shop attr = {.op = IR_shop_right};
    return fe_is_poison(bits)
               ? bits
               : fe_ew2(c, OP_shift, &attr, bits, fe_int(c, (ig_dtype)bits->dtype, by));
}

/* Significant bits of a float type. */
static int random_precision(ig_dtype d) {
    return d == IG_f64 ? 53 : d == IG_f32 ? 24 : d == IG_f16 ? 11 : 8;
}

/* The top bits of words as k * 2^-precision, k from `first`: uniform in [0, 1), or (0, 1] for first
 * = 1. */
static ig_tensor *random_unit(fe_call *c, ig_tensor *bits, ig_dtype dtype, int first) {
    int p = random_precision(dtype),
        width = fe_is_poison(bits) ? 32 : (int)(8 * rt_dtype_bytes((ig_dtype)bits->dtype));
    ig_tensor *k = random_shift(c, bits, width - p);
    if (first) k = fe_with(c, OP_add, k, first);
    return fe_with(c, OP_mul, fe_convert(c, k, dtype), 1.0 / (double)((int64_t)1 << p));
}

static ir_width random_width(ig_dtype d) { return d == IG_f64 ? IR_width_u64 : IR_width_u32; }

static bool random_check(fe_call *c, ig_dtype dtype, ig_dims dims, ir_dims *out_) {
    if (fe_is_dtype(dtype) && rt_is_float(dtype)) return fe_user_dims(c, dims, false, out_);
    fe_error(c, IG_DTYPE, "a float element type is needed");
    return false;
}

ig_tensor *ig_uniform_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, ig_dims dims,
                         double lo, double hi) {
    FE_ENTER(site, "uniform");
    ir_dims d;
    if (!random_check(c, dtype, dims, &d)) return fe_leave(c, NULL);
    ig_tensor *u = random_unit(c, random_bits(c, rng, random_width(dtype), &d), dtype, 0);
    return fe_leave(c, fe_with(c, OP_add, fe_with(c, OP_mul, u, hi - lo), lo));
}

/* sqrt(-2 log u) cos(2 pi v) with u in (0, 1], v in [0, 1). */
static ig_tensor *random_normal(fe_call *c, ig_tensor *rng, ig_dtype dtype, const ir_dims *dims) {
    ir_dims flat = {.n = 2, .d = {2, 1}}, one = {.n = 1, .d = {1}};
    for (int i = 0; i < dims->n; i++) one.d[0] = ir_dim_mul(fe_module(c), one.d[0], dims->d[i]);
    flat.d[1] = one.d[0];
    ig_tensor *bits = random_bits(c, rng, random_width(dtype), &flat);
    if (fe_is_poison(bits)) return bits;
    ig_tensor *u = random_unit(c, fe_reshape(c, fe_cut(c, bits, 0, 0, 1), &one), dtype, 1);
    ig_tensor *v = random_unit(c, fe_reshape(c, fe_cut(c, bits, 0, 1, 2), &one), dtype, 0);
    ig_tensor *radius =
        fe_op1(c, OP_sqrt, NULL, fe_with(c, OP_mul, fe_op1(c, OP_log, NULL, u), -2));
    ig_tensor *angle = fe_op1(c, OP_cos, NULL, fe_with(c, OP_mul, v, 6.283185307179586476925));
    return fe_reshape(c, fe_mul(c, radius, angle), dims);
}

ig_tensor *ig_normal_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, ig_dims dims,
                        double mean, double deviation) {
    FE_ENTER(site, "normal");
    ir_dims d;
    if (!random_check(c, dtype, dims, &d)) return fe_leave(c, NULL);
    ig_tensor *z = random_normal(c, rng, dtype == IG_f64 ? IG_f64 : IG_f32, &d);
    z = fe_with(c, OP_add, fe_with(c, OP_mul, z, deviation), mean);
    return fe_leave(c, fe_convert(c, z, dtype));
}

ig_tensor *ig_randint_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, ig_dims dims,
                         int64_t lo, int64_t hi) {
    FE_ENTER(site, "randint");
    ir_dims d;
    if (!fe_is_dtype(dtype) || !rt_is_int(dtype))
        return fe_leave(c, fe_error(c, IG_DTYPE, "an integer type is needed"));
    if (lo >= hi)
        return fe_leave(
            c, fe_error(c, IG_RANGE, "[%lld, %lld) is empty", (long long)lo, (long long)hi));
    if (!fe_user_dims(c, dims, false, &d)) return fe_leave(c, NULL);
    if (fe_is_poison(fe_int(c, dtype, lo)) || fe_is_poison(fe_int(c, dtype, hi - 1)))
        return fe_leave(c, NULL);
    ig_tensor *span = fe_number(c, IG_u64, ig_arg_u((uint64_t)hi - (uint64_t)lo));
    ig_tensor *k = fe_ew2(c, OP_rem, NULL, random_bits(c, rng, IR_width_u64, &d), span);
    ir_attr_dtype same_bits = {.dtype = IG_i64};
    ig_tensor *r = fe_add(c, fe_op1(c, OP_bitcast, &same_bits, k), fe_int(c, IG_i64, lo));
    return fe_leave(c, fe_convert(c, r, dtype));
}

ig_tensor *ig_bernoulli_at(const ig_site *site, ig_tensor *rng, ig_dims dims, double p) {
    FE_ENTER(site, "bernoulli");
    ir_dims d;
    if (!(p >= 0 && p <= 1))
        return fe_leave(c, fe_error(c, IG_RANGE, "%g is not a probability", p));
    if (!fe_user_dims(c, dims, false, &d)) return fe_leave(c, NULL);
    ig_tensor *u = random_unit(c, random_bits(c, rng, IR_width_u64, &d), IG_f64, 0);
    return fe_leave(c, fe_cmp(c, IR_cmpop_lt, u, fe_float(c, IG_f64, p)));
}

/* Sort random words whose low bits are replaced by the position. */
ig_tensor *ig_permutation_at(const ig_site *site, ig_tensor *rng, int64_t n) {
    FE_ENTER(site, "permutation");
    if (n < 0 || n > (int64_t)1 << 31)
        return fe_leave(c, fe_error(c, IG_RANGE, "a permutation of %lld elements", (long long)n));
    int64_t low = 1;
    while (low < n) low *= 2;
    ir_dims d = {.n = 1, .d = {n}};
    ig_tensor *word =
        fe_convert(c, random_shift(c, random_bits(c, rng, IR_width_u64, &d), 1), IG_i64);
    word = fe_bit(c, IR_bitop_band, word, fe_int(c, IG_i64, INT64_MAX - (low - 1)));
    word = fe_bit(c, IR_bitop_bor, word, fe_iota(c, IG_i64, &d, 0));
    ir_attr_sort sort = {.axis = 0, .keys = 1};
    if (!fe_is_poison(word)) word = fe_op1(c, OP_sort, &sort, word);
    return fe_leave(c, fe_bit(c, IR_bitop_band, word, fe_int(c, IG_i64, low - 1)));
}
