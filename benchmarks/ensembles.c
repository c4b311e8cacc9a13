/* What a careful C programmer would write: Dormand & Prince's method of order 5(4) with its dense output (Hairer,
   Norsett & Wanner 1993, section II), one row after the other, rows shared out among threads.

   cc -O3 -march=native -fopenmp -shared -fPIC -DPROBLEM=1 ensembles.c -lm */
#include <math.h>
#include <string.h>

#if PROBLEM == 1 /* Lotka-Volterra */
enum { SIZE = 2, PARAMETERS = 4 };
static inline void start(const double *p, double *y) { y[0] = 30; y[1] = 1; }
static inline void field(int part, const double *y, const double *p, double *f) {
    f[0] = y[0] * (p[0] - p[1] * y[1]);
    f[1] = y[1] * (p[3] * y[0] - p[2]);
}
#elif PROBLEM == 2 /* Lorenz */
enum { SIZE = 3, PARAMETERS = 3 };
static inline void start(const double *p, double *y) { y[0] = y[1] = 1; y[2] = 20; }
static inline void field(int part, const double *y, const double *p, double *f) {
    f[0] = p[0] * (y[1] - y[0]);
    f[1] = y[0] * (p[1] - y[2]) - y[1];
    f[2] = y[0] * y[1] - p[2] * y[2];
}
#elif PROBLEM == 4 /* Lotka-Volterra, predators dying half as fast again from a time on */
#define JUMPS 1
enum { SIZE = 2, PARAMETERS = 5 };
static inline void start(const double *p, double *y) { y[0] = 30; y[1] = 1; }
static inline void jumps(const double *p, double *at) { at[0] = p[4]; }
static inline void field(int part, const double *y, const double *p, double *f) {
    f[0] = y[0] * (p[0] - p[1] * y[1]);
    f[1] = y[1] * (p[3] * y[0] - (part ? 1.5 : 1) * p[2]);
}
#elif PROBLEM == 5 /* Lorenz's ring of forty, each place with a forcing of its own */
enum { SIZE = 40, PARAMETERS = 40 };
static inline void start(const double *p, double *y) { for (int i = 0; i < SIZE; i++) y[i] = i ? 8 : 9; }
static inline void field(int part, const double *y, const double *p, double *f) {
    for (int i = 2; i < SIZE - 1; i++) f[i] = (y[i + 1] - y[i - 2]) * y[i - 1] - y[i] + p[i];
    f[0] = (y[1] - y[SIZE - 2]) * y[SIZE - 1] - y[0] + p[0];
    f[1] = (y[2] - y[SIZE - 1]) * y[0] - y[1] + p[1];
    f[SIZE - 1] = (y[0] - y[SIZE - 3]) * y[SIZE - 2] - y[SIZE - 1] + p[SIZE - 1];
}
#else /* three bodies in a plane, of masses p, near the figure of eight; x, then v */
enum { SIZE = 12, PARAMETERS = 3 };
static inline void start(const double *p, double *y) {
    static const double begin[12] = {0.97000436, -0.24308753, -0.97000436, 0.24308753, 0, 0,
                                     0.466203685, 0.43236573, 0.466203685, 0.43236573, -0.93240737, -0.86473146};
    memcpy(y, begin, sizeof begin);
}
static inline void field(int part, const double *y, const double *p, double *f) {
    for (int i = 0; i < 6; i++) { f[i] = y[6 + i]; f[6 + i] = 0; }
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < i; j++) {
            double dx = y[2 * j] - y[2 * i], dy = y[2 * j + 1] - y[2 * i + 1];
            double r2 = dx * dx + dy * dy + 0.01, inverse = 1 / (r2 * sqrt(r2));
            f[6 + 2 * i] += p[j] * dx * inverse; f[7 + 2 * i] += p[j] * dy * inverse;
            f[6 + 2 * j] -= p[i] * dx * inverse; f[7 + 2 * j] -= p[i] * dy * inverse;
        }
}
#endif
#ifndef JUMPS
#define JUMPS 0
static inline void jumps(const double *p, double *at) {}
#endif

static const double A[7][6] = {{0}, {1. / 5}, {3. / 40, 9. / 40}, {44. / 45, -56. / 15, 32. / 9},
    {19372. / 6561, -25360. / 2187, 64448. / 6561, -212. / 729},
    {9017. / 3168, -355. / 33, 46732. / 5247, 49. / 176, -5103. / 18656},
    {35. / 384, 0, 500. / 1113, 125. / 192, -2187. / 6784, 11. / 84}};
static const double E[7] = {71. / 57600, 0, -71. / 16695, 71. / 1920, -17253. / 339200, 22. / 525, -1. / 40};
static const double D[7] = {-12715105075. / 11282082432, 0, 87487479700. / 32700410799, -10690763975. / 1880347072,
    701980252875. / 199316789632, -1453857185. / 822651844, 69997945. / 29380423};

static int solve(const double *p, const double *times, int num_times, double tolerance, int max_steps, double *out) {
    double y[SIZE], z[SIZE], k[7][SIZE], t = times[0], stop = times[num_times - 1], h = 0.01, ends[JUMPS + 1];
    int save = 0, steps = 0, part = 0;
    start(p, y);
    jumps(p, ends);
    ends[JUMPS] = stop;
    field(part, y, p, k[0]);
    for (; save < num_times && times[save] <= t; save++) memcpy(out + save * SIZE, y, sizeof y);
    for (; t < stop && steps < max_steps; steps++) {
        double end = fmin(ends[part], stop);
        int whole = t + h >= end;
        if (whole) h = end - t;
        for (int i = 1; i < 7; i++) {
            for (int d = 0; d < SIZE; d++) {
                double sum = 0;
                for (int j = 0; j < i; j++) sum += A[i][j] * k[j][d];
                z[d] = y[d] + h * sum;
            }
            field(part, z, p, k[i]);
        }
        double norm = 0;
        for (int d = 0; d < SIZE; d++) {
            double sum = 0;
            for (int j = 0; j < 7; j++) sum += E[j] * k[j][d];
            double scaled = h * sum / (tolerance + tolerance * fmax(fabs(y[d]), fabs(z[d])));
            norm += scaled * scaled;
        }
        norm = sqrt(norm / SIZE);
        double factor = 0.9 * pow(norm, -0.2);
        if (norm < 1) {
            for (; save < num_times && times[save] <= t + h; save++) {
                double x = (times[save] - t) / h;
                for (int d = 0; d < SIZE; d++) {
                    double change = z[d] - y[d], first = h * k[0][d] - change, last = change - h * k[6][d] - first, sum = 0;
                    for (int j = 0; j < 7; j++) sum += D[j] * k[j][d];
                    out[save * SIZE + d] = y[d] + x * (change + (1 - x) * (first + x * (last + (1 - x) * h * sum)));
                }
            }
            t = whole ? end : t + h;
            memcpy(y, z, sizeof y);
            memcpy(k[0], k[6], sizeof y);
            h *= fmin(10, fmax(0.2, factor));
            if (whole && part < JUMPS) field(++part, y, p, k[0]);
        } else
            h *= fmin(1, fmax(0.2, factor));
    }
    return steps;
}

void solve_rows(const double *p, int rows, const double *times, int num_times, double tolerance, int max_steps,
                double *out, int *steps) {
#pragma omp parallel for schedule(dynamic, 64)
    for (int i = 0; i < rows; i++)
        steps[i] = solve(p + (size_t)i * PARAMETERS, times, num_times, tolerance, max_steps,
                         out + (size_t)i * num_times * SIZE);
}
