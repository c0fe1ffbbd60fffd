/* Counts the solutions of the n queens problem with MPI: a program as it is written for any cluster.
 *
 *   mpicc -O2 -o nqueens nqueens.c
 *   mpirun ./nqueens 14
 *
 * Rank 0 gives the places of the first two queens out, one pair at a time to whoever is idle; the
 * others count what follows from them. With one rank alone, that one counts everything. */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORK = 1, DONE = 2 };

/* Solutions with the rows below given as bits: columns and both diagonals that are taken. */
static long long count(unsigned all, unsigned columns, unsigned left, unsigned right)
{
    long long solutions = 0;
    unsigned open = all & ~(columns | left | right);
    if (columns == all)
        return 1;
    while (open) {
        unsigned queen = open & -open;
        open ^= queen;
        solutions += count(all, columns | queen, (left | queen) << 1, (right | queen) >> 1);
    }
    return solutions;
}

/* The solutions that begin with queens in these columns of the first two rows. */
static long long count_unit(int n, int unit)
{
    unsigned all = (1u << n) - 1;
    unsigned first = 1u << (unit / n), second = 1u << (unit % n);
    unsigned left = first << 1, right = first >> 1;
    if (second & (first | left | right))
        return 0;
    return count(all, first | second, (left | second) << 1, (right | second) >> 1);
}

/* Gives every unit out and returns when all workers have been sent home. */
static void give_out(int units, int workers)
{
    int next = 0;
    while (workers > 0) {
        MPI_Status idle;
        MPI_Recv(NULL, 0, MPI_INT, MPI_ANY_SOURCE, WORK, MPI_COMM_WORLD, &idle);
        if (next < units) {
            MPI_Send(&next, 1, MPI_INT, idle.MPI_SOURCE, WORK, MPI_COMM_WORLD);
            next++;
        } else {
            MPI_Send(&next, 1, MPI_INT, idle.MPI_SOURCE, DONE, MPI_COMM_WORLD);
            workers--;
        }
    }
}

/* Asks for units until there are none. */
static long long work(int n, int *units_here)
{
    long long solutions = 0;
    for (;;) {
        int unit;
        MPI_Status answer;
        MPI_Send(NULL, 0, MPI_INT, 0, WORK, MPI_COMM_WORLD);
        MPI_Recv(&unit, 1, MPI_INT, 0, MPI_ANY_TAG, MPI_COMM_WORLD, &answer);
        if (answer.MPI_TAG == DONE)
            return solutions;
        solutions += count_unit(n, unit);
        ++*units_here;
    }
}

int main(int argc, char **argv)
{
    int rank, size, units_here = 0;
    long long solutions = 0, sum = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);

    int n = argc == 2 ? atoi(argv[1]) : 0;
    if (n < 2 || n > 20) {
        if (rank == 0)
            fprintf(stderr, "usage: nqueens BOARD   (2 to 20)\n");
        MPI_Finalize();
        return 2;
    }
    double begin = MPI_Wtime();
    if (size == 1) {
        for (int unit = 0; unit < n * n; unit++)
            solutions += count_unit(n, unit);
        units_here = n * n;
    } else if (rank == 0) {
        give_out(n * n, size - 1);
    } else {
        solutions = work(n, &units_here);
    }
    MPI_Reduce(&solutions, &sum, 1, MPI_LONG_LONG, MPI_SUM, 0, MPI_COMM_WORLD);

    char host[MPI_MAX_PROCESSOR_NAME];
    int length;
    MPI_Get_processor_name(host, &length);
    printf("rank %d on %s: %d units\n", rank, host, units_here);
    fflush(stdout);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        printf("solutions(%d) = %lld\n", n, sum);
        printf("%d ranks, %.2f s\n", size, MPI_Wtime() - begin);
    }
    MPI_Finalize();
    return 0;
}
