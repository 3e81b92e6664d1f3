/* What a session is after, and what is foreseen of it: one call of `infer` in `inference.py`.

   The Python beside this is the reference, and says why; this does the same steps in the same
   order for the usual call. What is not usual (evidence of another model, more tracks than there
   is room for) is left to the Python. No state is kept, nothing is trusted of the evidence,
   everything of the model: a table was checked when it was loaded. Tests hold the two together. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INTERFACE 6 /* with Python; to be changed with what is exchanged, here or in `rows.c` */

/* What takes most of the time is compiled once for each kind of processor. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12
#define FAST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FAST
#endif

#define EXPORTED __attribute__((visibility("default")))

enum {
    HEAD = 32,
    VERSION = 16,
    MOST_HEARD = 300,
    MOST_LISTED = 4096,
    MOST_OUT = 4096,
    MOST_DIMENSIONS = 256,
    SPARE = 96,
    TRACKS = 1536,
    FOR_HEARD = 128,
    MOST_TRACKS = 16384,
    PLAYS = 512,
    OLDEST = 0xFFFF,
    LINE = 32, /* halves in a line of the processor's cache */
    FEW = 8,
    NOT_USUAL = -1,
};

static const double MISS = 0.3, LEAST = 0.005, MOST = 0.995, FARTHEST = 30.0;
static const double ROUNDING = 0.01 * 0.01 / 12.0, PROBIT = M_PI / 8.0;
static const float MOST_NUMBER = 1e6f, OUT = -INFINITY;

enum { LANES = 16 };
typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));

/* A table with its session model, as `Source` has it. `n` tracks, `l` leaves of `size`. */
typedef struct {
    int64_t n, leaves, size, k;
    const int64_t *ids;       /* [n] ascending */
    const int32_t *artist;    /* [n] */
    const int32_t *place;     /* [n] */
    const int32_t *row_at;    /* [l * size], -1 at places left over */
    const int32_t *artist_at; /* [l * size] */
    const uint16_t *vectors;  /* [l * size, k], bfloat16 */
    const uint32_t *centres;  /* [l / 2 / LANES, k, LANES], pairs of bfloat16; see `native.py` */
    const double *opening;    /* [k, k] */
    const double *spread;     /* [k, k] */
    const float *discounts;   /* [PLAYS] */
    uint16_t *plays;          /* [artists], all zero between calls */
    float *worth;             /* where a search works, and so all that follow; as long as it takes */
    int32_t *keys, *chosen, *leaf, *gone;
    uint8_t *kept; /* what a call tells, and so all that follow; see `infer` */
    int64_t *tracks;
    float *numbers;
    int64_t *found;
    double noise, discount;
    char version[VERSION];
} Model;

/* The evidence, taken apart: what `evidence.py` keeps as bytes. */
typedef struct {
    int64_t heard, listed, age;
    int64_t tracks[MOST_HEARD + 1];
    uint8_t times[MOST_HEARD + 1]; /* hundredths */
    uint32_t places[MOST_LISTED];
    uint16_t plays[MOST_LISTED];
    float *mean;  /* [k] */
    float *upper; /* the upper triangle of the covariance, row by row */
} Evidence;

/* A bfloat16 is the upper half of a float. */
static inline float wide(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* Reading and writing ------------------------------------------------------------------------ */

static int64_t numbers_of(int64_t k) { return k + k * (k + 1) / 2; }

static void take(void *to, const uint8_t **from, size_t size)
{
    memcpy(to, *from, size);
    *from += size;
}

static void put(uint8_t **to, const void *from, size_t size)
{
    memcpy(*to, from, size);
    *to += size;
}

/* Read evidence of this model; tells whether it is that. */
static int read_evidence(const Model *m, const uint8_t *data, int64_t size, Evidence *e)
{
    uint16_t head[4];
    if (size < HEAD || memcmp(data + 8, m->version, VERSION) != 0)
        return 0;
    memcpy(head, data + 8 + VERSION, sizeof head);
    int64_t k = head[0], numbers = numbers_of(k);
    e->heard = head[1], e->listed = head[2], e->age = head[3];
    if (k != m->k || e->heard > MOST_HEARD || e->listed > MOST_LISTED)
        return 0;
    if (size != HEAD + 9 * e->heard + 4 * numbers + 6 * e->listed)
        return 0;
    const uint8_t *at = data + HEAD;
    take(e->tracks, &at, 8 * e->heard);
    take(e->mean, &at, 4 * k);
    take(e->upper, &at, 4 * (numbers - k));
    take(e->places, &at, 4 * e->listed);
    take(e->plays, &at, 2 * e->listed);
    take(e->times, &at, e->heard);
    int bad = 0;
    for (int64_t i = 0; i < k; i++)
        bad |= !(fabsf(e->mean[i]) <= MOST_NUMBER);
    for (int64_t i = 0; i < numbers - k; i++)
        bad |= !(fabsf(e->upper[i]) <= MOST_NUMBER);
    for (int64_t i = 0, at_diagonal = 0; i < k; at_diagonal += k - i, i++)
        bad |= !(e->upper[at_diagonal] > 0.0f);
    for (int64_t i = 0; i < e->heard; i++)
        bad |= e->times[i] > 100;
    for (int64_t i = 1; i < e->listed; i++)
        bad |= e->places[i] <= e->places[i - 1];
    return !bad;
}

/* Write evidence, but for its checksum; returns the size. */
static int64_t write_evidence(const Model *m, const Evidence *e, uint8_t *kept)
{
    uint16_t head[4] = {m->k, e->heard, e->listed, e->age};
    uint8_t *at = kept + 8;
    put(&at, m->version, VERSION);
    put(&at, head, sizeof head);
    put(&at, e->tracks, 8 * e->heard);
    put(&at, e->mean, 4 * m->k);
    put(&at, e->upper, 4 * (numbers_of(m->k) - m->k));
    put(&at, e->places, 4 * e->listed);
    put(&at, e->plays, 2 * e->listed);
    put(&at, e->times, e->heard);
    return at - kept;
}

/* Return the row of a track, -1 when the table lacks it. */
static int64_t row_of(const Model *m, int64_t track)
{
    int64_t low = 0, high = m->n;
    /* Most catalogues number their tracks one after the other. */
    if (track >= m->ids[0] && track - m->ids[0] < m->n && m->ids[track - m->ids[0]] == track)
        return track - m->ids[0];
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (m->ids[middle] < track)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->n && m->ids[low] == track ? low : -1;
}

/* Learning ----------------------------------------------------------------------------------- */

static void begin(const Model *m, Evidence *e, int64_t row, double time)
{
    int64_t k = m->k;
    const uint16_t *v = row < 0 ? NULL : m->vectors + m->place[row] * k;
    float *upper = e->upper;
    for (int64_t i = 0; i < k; i++) {
        const double *opening = m->opening + i * k;
        double sum = opening[k - 1];
        for (int64_t j = 0; v && j < k - 1; j++)
            sum += opening[j] * (wide(v[j]) * time);
        e->mean[i] = (float)sum;
        for (int64_t j = i; j < k; j++)
            *upper++ = (float)m->spread[i * k + j];
    }
}

/* Move the belief by one track, of an artist that was played `plays` times before. */
FAST static void update(const Model *m, Evidence *e, int64_t row, double time, int64_t plays)
{
    int64_t k = m->k;
    float x[MOST_DIMENSIONS], gain[MOST_DIMENSIONS] = {0};
    double share = pow(m->discount, (double)plays);
    if (share < LEAST)
        return;
    double fraction = time / share;
    int side = time < LEAST ? -1 : fraction > MOST - 0.001 ? 1 : 0;
    fraction = fmin(fmax(fraction, LEAST), MOST);
    double slope = share * fraction * (1.0 - fraction);
    const uint16_t *v = m->vectors + m->place[row] * k;
    for (int64_t j = 0; j < k - 1; j++)
        x[j] = wide(v[j]);
    x[k - 1] = 1.0f;
    double error = log(fraction / (1.0 - fraction)) - wide(v[k - 1]), projected = 0.0;
    const float *upper = e->upper;
    for (int64_t i = 0; i < k; upper += k - i, i++) {
        float sum = upper[0] * x[i];
        for (int64_t j = 1; j < k - i; j++) {
            sum += upper[j] * x[i + j];
            gain[i + j] += upper[j] * x[i];
        }
        gain[i] += sum;
    }
    for (int64_t i = 0; i < k; i++) {
        projected += (double)x[i] * gain[i];
        error -= (double)x[i] * e->mean[i];
    }
    double variance = fmax(projected, 0.0) + ROUNDING / (slope * slope) + m->noise;
    double shift = error / variance, shrink = 1.0 / variance;
    if (side) {
        double deviation = sqrt(variance);
        double z = fmin(fmax(-side * error / deviation, -FARTHEST), FARTHEST);
        double hazard = exp(-0.5 * z * z) / (sqrt(M_PI / 2.0) * erfc(-z / sqrt(2.0)));
        shift = side * hazard / deviation;
        shrink = hazard * (hazard + z) / variance;
    }
    float *changed = e->upper;
    for (int64_t i = 0; i < k; changed += k - i, i++) {
        float by = (float)(gain[i] * shrink);
        e->mean[i] += (float)(gain[i] * shift);
        for (int64_t j = 0; j < k - i; j++)
            changed[j] -= by * gain[i + j];
    }
}

static void strike_from_shortlist(Evidence *e, uint32_t place)
{
    int64_t left = 0;
    for (int64_t i = 0; i < e->listed; i++) {
        e->places[left] = e->places[i];
        e->plays[left] = e->plays[i];
        left += e->places[i] != place;
    }
    e->listed = left;
}

/* Take in one more report. */
static void learn(const Model *m, Evidence *e, int64_t track, double time)
{
    int64_t row = row_of(m, track), plays = 0;
    int repeated = 0;
    if (time < MISS)
        e->listed = e->age = 0;
    if (row >= 0) {
        int32_t artist = m->artist[row];
        strike_from_shortlist(e, (uint32_t)m->place[row]);
        for (int64_t i = 0; i < e->listed; i++)
            e->plays[i] += e->places[i] < m->leaves * m->size && m->artist_at[e->places[i]] == artist;
        for (int64_t i = 0; i < e->heard; i++) {
            int64_t other = row_of(m, e->tracks[i]);
            plays += other >= 0 && m->artist[other] == artist;
            repeated |= other == row;
        }
        if (!repeated)
            update(m, e, row, time, plays);
    }
    e->age += e->age < OLDEST;
    e->tracks[e->heard] = track;
    e->times[e->heard++] = (uint8_t)rint(time * 100.0);
    if (e->heard > MOST_HEARD) { /* the first track set the prior: it stays */
        e->heard = MOST_HEARD;
        memmove(e->tracks + 1, e->tracks + 2, sizeof(int64_t) * (MOST_HEARD - 1));
        memmove(e->times + 1, e->times + 2, MOST_HEARD - 1);
    }
}

/* Searching ---------------------------------------------------------------------------------- */

/* A vector to multiply others with, in blocks of twice `LANES` numbers: the even ones, the odd ones.
   The last block ends where the vector ends, and is zero where it repeats the one before it. */
typedef struct {
    int64_t k, blocks;
    Lanes even[MOST_DIMENSIONS / LANES], odd[MOST_DIMENSIONS / LANES];
    float plain[MOST_DIMENSIONS];
} Factor;

static int64_t start_of_block(int64_t block, int64_t k)
{
    int64_t start = block * 2 * LANES, last = k - 2 * LANES;
    return start < last ? start : last;
}

static void prepare(Factor *f, const float *with, int64_t k)
{
    f->k = k;
    f->blocks = k < 2 * LANES ? 0 : (k + 2 * LANES - 1) / (2 * LANES);
    memcpy(f->plain, with, sizeof(float) * k);
    for (int64_t block = 0; block < f->blocks; block++) {
        int64_t start = start_of_block(block, k);
        for (int64_t lane = 0; lane < LANES; lane++) {
            int64_t even = start + 2 * lane, odd = even + 1, first = block * 2 * LANES;
            f->even[block][lane] = even < first ? 0.0f : with[even];
            f->odd[block][lane] = odd < first ? 0.0f : with[odd];
        }
    }
}

/* Multiply `rows` vectors, end to end, with one. Two of their numbers are in each word that is
   read, so none has to be widened. */
FAST static void multiply(const uint16_t *vectors, int64_t rows, const Factor *f, float *to)
{
    for (int64_t row = 0; row < rows; row++, vectors += f->k) {
        Lanes sums = {0};
        float sum = 0.0f;
        for (int64_t block = 0; block < f->blocks; block++) {
            Bits pairs;
            memcpy(&pairs, vectors + start_of_block(block, f->k), sizeof pairs);
            sums += (Lanes)(pairs << 16) * f->even[block];
            sums += (Lanes)(pairs & 0xFFFF0000u) * f->odd[block];
        }
        for (int64_t lane = 0; f->blocks && lane < LANES; lane++)
            sum += sums[lane];
        for (int64_t j = 0; !f->blocks && j < f->k; j++)
            sum += wide(vectors[j]) * f->plain[j];
        to[row] = sum;
    }
}

/* The same of all centres: of twice `LANES` leaves at once. */
FAST static void multiply_centres(const Model *m, const float *with, float *to)
{
    const uint32_t *centres = m->centres;
    for (int64_t leaf = 0; leaf < m->leaves; leaf += 2 * LANES, to += 2 * LANES) {
        Lanes lower = {0}, upper = {0};
        for (int64_t j = 0; j < m->k; j++, centres += LANES) {
            Bits pairs;
            memcpy(&pairs, centres, sizeof pairs);
            lower += (Lanes)(pairs << 16) * with[j];
            upper += (Lanes)(pairs & 0xFFFF0000u) * with[j];
        }
        memcpy(to, &lower, sizeof lower);
        memcpy(to + LANES, &upper, sizeof upper);
    }
}

/* Have memory fetched that is going to be read. */
static void fetch(const uint16_t *from, int64_t count)
{
    for (int64_t i = 0; i < count; i += LINE)
        __builtin_prefetch(from + i);
}

/* Return a whole number for each float, in the same order. */
static int32_t key_of(float value)
{
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits ^ ((bits >> 31) & INT32_MAX);
}

/* Return the key that `count` of `n` values reach, or more where some are equal: by halving the
   range in which it can lie, for to count takes no branch. */
FAST static int32_t key_of_nth(const float *values, int64_t n, int64_t count, int32_t *keys)
{
    int64_t low = INT32_MAX, high = INT32_MIN;
    for (int64_t i = 0; i < n; i++) {
        keys[i] = key_of(values[i]);
        low = keys[i] < low ? keys[i] : low;
        high = keys[i] > high ? keys[i] : high;
    }
    while (low < high) { /* `low` is reached by `count` or more */
        int64_t middle = low + (high - low + 1) / 2;
        int32_t reached = 0, bound = (int32_t)middle;
        for (int64_t i = 0; i < n; i++)
            reached += keys[i] >= bound;
        if (reached == count)
            return bound;
        if (reached > count)
            low = middle;
        else
            high = middle - 1;
    }
    return (int32_t)low;
}

/* Add the indices `from` to `to` of keys beyond `bound` to those chosen, and of such as are equal to
   it the next `equal`; returns how many are chosen then. */
static inline int64_t choose(const int32_t *keys, int64_t from, int64_t to, int32_t bound,
                             int64_t *equal, int32_t *chosen, int64_t found)
{
    for (int64_t i = from; i < to; i++) { /* no branch: nobody could foresee which way it goes */
        int same = keys[i] == bound;
        chosen[found] = (int32_t)i;
        found += (keys[i] > bound) | (same & (*equal > 0));
        *equal -= same;
    }
    return found;
}

/* Choose the `count` largest of `n` values: their indices, ascending; returns how many. */
FAST static int64_t largest(const float *values, int64_t n, int64_t count, int32_t *keys, int32_t *chosen)
{
    int64_t more = 0, found = 0;
    if (count >= n) {
        for (; found < n; found++)
            chosen[found] = (int32_t)found;
        return found;
    }
    int32_t bound = key_of_nth(values, n, count, keys);
    for (int64_t i = 0; i < n; i++)
        more += keys[i] > bound;
    int64_t equal = count - more, i = 0;
    for (; i + FEW <= n; i += FEW) {
        int some = 0;
        for (int64_t j = i; j < i + FEW; j++)
            some |= keys[j] >= bound;
        if (some)
            found = choose(keys, i, i + FEW, bound, &equal, chosen, found);
    }
    return choose(keys, i, n, bound, &equal, chosen, found);
}

/* Note in `gone` the places that are out of the question, and in the model's `plays` the artists
   heard; returns how many places. */
static int64_t note_heard(const Model *m, const Evidence *e, const int64_t *out, int64_t outs,
                          int32_t *gone)
{
    int64_t known = 0;
    for (int64_t i = 0; i < e->heard; i++) {
        int64_t row = row_of(m, e->tracks[i]);
        if (row < 0)
            continue;
        m->plays[m->artist[row]]++;
        gone[known++] = m->place[row];
    }
    for (int64_t i = 0; i < outs; i++) {
        int heard = 0;
        for (int64_t j = 0; j < e->heard; j++)
            heard |= e->tracks[j] == out[i];
        int64_t row = heard ? -1 : row_of(m, out[i]);
        if (row >= 0)
            gone[known++] = m->place[row];
    }
    return known;
}

static void forget_heard(const Model *m, const Evidence *e)
{
    for (int64_t i = 0; i < e->heard; i++) {
        int64_t row = row_of(m, e->tracks[i]);
        if (row >= 0)
            m->plays[m->artist[row]] = 0;
    }
}

/* Return the logit of a time after its discount. */
static float discounted(float logit, float discount)
{
    double time = discount / (1.0 + exp(fmax(-logit, -80.0)));
    return (float)fmax(log(time / (1.0 - time)), -1e30);
}

/* Say what each track of the leaves `leaf` is worth, end to end: the logit of its time, for that
   takes an exponential only where the artist was played. */
static void appraise(const Model *m, const Evidence *e, const Factor *query, const int32_t *leaf,
                     int64_t looked)
{
    int64_t k = m->k, size = m->size;
    float *worth = m->worth;
    for (int64_t i = 0; i < looked; i++, worth += size) {
        const int32_t *artist = m->artist_at + leaf[i] * size;
        if (i + 1 < looked)
            fetch(m->vectors + leaf[i + 1] * size * k, size * k);
        multiply(m->vectors + leaf[i] * size * k, size, query, worth);
        for (int64_t j = 0; j < size; j++) {
            uint16_t plays = m->plays[artist[j]];
            worth[j] += e->mean[k - 1];
            if (plays)
                worth[j] = discounted(worth[j], m->discounts[plays < PLAYS ? plays : PLAYS - 1]);
        }
    }
    for (int64_t j = 0; j < size; j++) /* only the last leaf has places left over */
        if (leaf[looked - 1] == m->leaves - 1 && m->row_at[(m->leaves - 1) * size + j] < 0)
            m->worth[(looked - 1) * size + j] = OUT;
}

/* Strike places out of what was appraised. */
static void strike(const Model *m, const int32_t *gone, int64_t count, const int32_t *leaf,
                   int64_t looked)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t low = 0, high = looked, in = gone[i] / m->size;
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (leaf[middle] < in)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < looked && leaf[low] == in)
            m->worth[low * m->size + gone[i] % m->size] = OUT;
    }
}

/* Find the best `count` for the shortlist. `out` are tracks that went out and are no candidates. */
static void look(const Model *m, Evidence *e, const int64_t *out, int64_t outs, int64_t count)
{
    int64_t k = m->k, size = m->size;
    float query[MOST_DIMENSIONS];
    Factor factor;
    memcpy(query, e->mean, sizeof(float) * k);
    query[k - 1] = 1.0f;
    int64_t known = note_heard(m, e, out, outs, m->gone);
    int64_t wanted = TRACKS + FOR_HEARD * known;
    wanted = wanted < MOST_TRACKS ? wanted : MOST_TRACKS;
    int64_t looked = (wanted + size - 1) / size;
    looked = looked < m->leaves ? looked : m->leaves;
    multiply_centres(m, query, m->worth);
    largest(m->worth, m->leaves, looked, m->keys, m->leaf);
    prepare(&factor, query, k);
    appraise(m, e, &factor, m->leaf, looked);
    strike(m, m->gone, known, m->leaf, looked);
    int64_t found = largest(m->worth, looked * size, count, m->keys, m->chosen);
    e->listed = e->age = 0;
    for (int64_t i = 0; i < found; i++) {
        int64_t place = m->leaf[m->chosen[i] / size] * size + m->chosen[i] % size;
        e->places[e->listed] = (uint32_t)place;
        e->plays[e->listed] = m->plays[m->artist_at[place]];
        e->listed += m->worth[m->chosen[i]] > OUT;
    }
    forget_heard(m, e);
}

/* Foreseeing --------------------------------------------------------------------------------- */

/* Say what is expected of `LANES` tracks: the mean and the variance of the logit. The vectors of
   the `next` ones are fetched meanwhile, one now and then: more at once would have to wait. */
FAST static void predict(const Model *m, const Evidence *e, const uint32_t *places,
                         const uint32_t *next, float *logits, float *variances)
{
    int64_t k = m->k;
    Lanes x[MOST_DIMENSIONS], mean = {0}, variance = {0};
    for (int64_t lane = 0; lane < LANES; lane++) {
        const uint16_t *vector = m->vectors + places[lane] * k;
        for (int64_t j = 0; j < k - 1; j++)
            x[j][lane] = wide(vector[j]);
        mean[lane] = wide(vector[k - 1]);
        x[k - 1][lane] = 1.0f;
    }
    const float *upper = e->upper;
    for (int64_t i = 0; i < k; upper += k - i, i++) {
        if (i / LANES * LINE < k)
            __builtin_prefetch(m->vectors + next[i % LANES] * k + i / LANES * LINE);
        Lanes others = {0}, more = {0}, rest = {0}, last = {0}; /* none waits for the one before */
        int64_t j = 1;
        for (; j + 4 <= k - i; j += 4) {
            others += upper[j] * x[i + j];
            more += upper[j + 1] * x[i + j + 1];
            rest += upper[j + 2] * x[i + j + 2];
            last += upper[j + 3] * x[i + j + 3];
        }
        for (; j < k - i; j++)
            others += upper[j] * x[i + j];
        others += more + rest + last;
        mean += e->mean[i] * x[i];
        variance += x[i] * (upper[0] * x[i] + 2.0f * others);
    }
    memcpy(logits, &mean, sizeof mean);
    memcpy(variances, &variance, sizeof variance);
}

/* Write the `n` indices of values to `sorted`, the largest first; of equals the first. Each counts
   those before it, without a branch, which for some dozens is faster than to move them. */
FAST static void sort(const float *values, int64_t n, const int32_t *indices, int32_t *sorted)
{
    float given[MOST_LISTED];
    for (int64_t i = 0; i < n; i++)
        given[i] = values[indices[i]];
    for (int64_t i = 0; i < n; i++) {
        int32_t before = 0;
        for (int64_t j = 0; j < n; j++)
            before += (given[j] > given[i]) | ((given[j] == given[i]) & (j < i));
        sorted[before] = indices[i];
    }
}

/* Rank the shortlist by expected time; returns how many of the best `tracks` are told, and in
   `numbers` `[4, found]` their times, discounts, logits and deviations. */
static int64_t rank(const Model *m, const Evidence *e, int64_t count, int64_t *tracks,
                    float *numbers)
{
    float times[MOST_LISTED], logits[MOST_LISTED + LANES], variances[MOST_LISTED + LANES];
    int32_t keys[MOST_LISTED], chosen[MOST_LISTED];
    if (!e->listed)
        return 0;
    uint32_t places[MOST_LISTED + 2 * LANES]; /* full lanes, and as many after the last */
    for (int64_t i = 0; i < e->listed + 2 * LANES; i++)
        places[i] = e->places[i < e->listed ? i : 0];
    for (int64_t i = 0; i < LANES && i < e->listed; i++)
        fetch(m->vectors + e->places[i] * m->k, m->k);
    for (int64_t i = 0; i < e->listed; i += LANES)
        predict(m, e, places + i, places + i + LANES, logits + i, variances + i);
    for (int64_t i = 0; i < e->listed; i++) {
        uint16_t plays = e->plays[i] < PLAYS ? e->plays[i] : PLAYS - 1;
        variances[i] = fmaxf(variances[i] + (float)m->noise, 0.0f);
        float expected = logits[i] / sqrtf(1.0f + (float)PROBIT * variances[i]);
        times[i] = m->discounts[plays] / (1.0f + expf(-fmaxf(expected, (float)-FARTHEST)));
    }
    int64_t found = largest(times, e->listed, count, keys, chosen);
    sort(times, found, chosen, keys);
    for (int64_t i = 0; i < found; i++) {
        int32_t at = keys[i];
        uint16_t plays = e->plays[at] < PLAYS ? e->plays[at] : PLAYS - 1;
        tracks[i] = m->ids[m->row_at[e->places[at]]];
        numbers[i] = times[at];
        numbers[found + i] = m->discounts[plays];
        numbers[2 * found + i] = logits[at];
        numbers[3 * found + i] = sqrtf(variances[at]);
    }
    return found;
}

/* The call ----------------------------------------------------------------------------------- */

EXPORTED int interface(void) { return INTERFACE; }

/* Learn from one more report, and foresee the `count` best; see `inference.infer`.

   `data` of `size` bytes is the evidence, none for a new session; its checksum is the caller's
   matter, as is that of the model's `kept`, which has room for the longest there is. `out` are the
   tracks that went out, the latest last. Returns the size of what is in `kept`, with the `found` best
   in `tracks` and `numbers` (see `rank`); NOT_USUAL when the Python is to be asked. */
EXPORTED int64_t infer(const Model *m, const uint8_t *data, int64_t size, int64_t track, double time,
                       const int64_t *out, int64_t outs, int64_t count)
{
    float belief[MOST_DIMENSIONS + MOST_DIMENSIONS * (MOST_DIMENSIONS + 1) / 2];
    Evidence e;
    e.mean = belief, e.upper = belief + m->k;
    if (m->k > MOST_DIMENSIONS || count + SPARE > MOST_LISTED || outs > MOST_OUT)
        return NOT_USUAL;
    if (size == 0) {
        e.heard = e.listed = e.age = 0;
        begin(m, &e, row_of(m, track), time);
        e.tracks[e.heard] = track;
        e.times[e.heard++] = (uint8_t)rint(time * 100.0);
    } else if (read_evidence(m, data, size, &e)) {
        learn(m, &e, track, time);
    } else {
        return NOT_USUAL;
    }
    int64_t last = outs ? row_of(m, out[outs - 1]) : -1;
    if (last >= 0)
        strike_from_shortlist(&e, (uint32_t)m->place[last]);
    int serves = 5 * e.age < e.heard + 4 && e.listed >= count;
    if (!serves || !e.listed || e.places[e.listed - 1] >= m->leaves * m->size)
        look(m, &e, out, outs, SPARE + count);
    for (int64_t i = 0; i < e.listed; i++)
        if (m->row_at[e.places[i]] < 0)
            return NOT_USUAL;
    *m->found = rank(m, &e, count, m->tracks, m->numbers);
    return write_evidence(m, &e, m->kept);
}
