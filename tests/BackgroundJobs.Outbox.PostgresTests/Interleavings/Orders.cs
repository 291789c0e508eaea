namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// All orders in which the steps of some actors can follow each other, each actor's own in their order.
internal static class Orders
{
    // As many by chance; some may be the same.
    public static IEnumerable<int[]> Some(IReadOnlyList<Actor> actors, int count)
    {
        var order = actors.SelectMany((actor, at) => Enumerable.Repeat(at, actor.Steps.Count)).ToArray();
        for (; count > 0; count--)
        {
            Random.Shared.Shuffle(order);
            yield return [.. order];
        }
    }

    // Each as the numbers of the actors: 0 1 1 0.
    public static IEnumerable<int[]> Of(IReadOnlyList<Actor> actors)
    {
        var left = actors.Select(actor => actor.Steps.Count).ToArray();
        var order = new int[left.Sum()];
        return From(0);

        IEnumerable<int[]> From(int at)
        {
            if (at == order.Length)
            {
                yield return [.. order];
                yield break;
            }

            for (var actor = 0; actor < left.Length; actor++)
            {
                if (left[actor] == 0)
                    continue;
                left[actor]--;
                order[at] = actor;
                foreach (var rest in From(at + 1))
                    yield return rest;
                left[actor]++;
            }
        }
    }
}
