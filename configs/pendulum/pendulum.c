/* A damped pendulum: angle'' = -(g / length) sin(angle) - damping angle', by the classical Runge-Kutta method.
   Reads a namelist-like file "name = value", and writes its angle every half second into angle.csv. */
#include <math.h>
#include <stdio.h>
#include <string.h>

static double length, damping, angle_0;

static void field(const double y[2], double dy[2]) {
    dy[0] = y[1];
    dy[1] = -9.81 / length * sin(y[0]) - damping * y[1];
}

static void step(double y[2], double h) {
    double k[4][2], z[2];
    const double at[4] = {0.0, 0.5, 0.5, 1.0};
    for (int s = 0; s < 4; s++) {
        for (int i = 0; i < 2; i++) z[i] = y[i] + (s ? h * at[s] * k[s - 1][i] : 0.0);
        field(z, k[s]);
    }
    for (int i = 0; i < 2; i++) y[i] += h / 6.0 * (k[0][i] + 2.0 * k[1][i] + 2.0 * k[2][i] + k[3][i]);
}

int main(int argc, char **argv) {
    char name[64];
    double value;
    FILE *in = argc > 1 ? fopen(argv[1], "r") : NULL, *out;
    if (!in) {
        fprintf(stderr, "usage: pendulum INPUT\n");
        return 2;
    }
    while (fscanf(in, " %63s = %lf", name, &value) == 2) {
        if (!strcmp(name, "length")) length = value;
        if (!strcmp(name, "damping")) damping = value;
        if (!strcmp(name, "angle_0")) angle_0 = value;
    }
    fclose(in);
    if (!(length > 0.0)) {
        fprintf(stderr, "ERROR: got a length of %g m, expected one above 0\n", length);
        return 1;
    }
    if (!(out = fopen("angle.csv", "w"))) return 3;
    double y[2] = {angle_0, 0.0};
    fprintf(out, "time,angle\n");
    for (int i = 0; i <= 20; i++) {
        fprintf(out, "%.1f,%.12e\n", 0.5 * i, y[0]);
        for (int j = 0; j < 100; j++) step(y, 0.005);
    }
    return fclose(out) ? 3 : 0;
}
