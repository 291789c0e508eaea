using System.Globalization;

namespace BackgroundJobs.Outbox.Chaos.Actors;

/// <summary>What an actor's process is told, by its environment: a command line can be read by every user of the machine.</summary>
/// <param name="Name">Under which people see it.</param>
/// <param name="ConnectionString">Through its proxy.</param>
/// <param name="LogFile">Shared by the incarnations of one actor, never by two actors.</param>
/// <param name="Seed">Of this incarnation.</param>
/// <param name="Lease">Of workers.</param>
internal sealed record ActorSettings(string Name, string ConnectionString, string LogFile, int Seed, TimeSpan Lease)
{
    private const string Prefix = "OUTBOX_CHAOS_";

    public static ActorSettings FromEnvironment() => new(
        Get("NAME"), Get("CONNECTION"), Get("LOG"), int.Parse(Get("SEED"), CultureInfo.InvariantCulture),
        TimeSpan.FromMilliseconds(double.Parse(Get("LEASE"), CultureInfo.InvariantCulture)));

    public void Put(IDictionary<string, string?> environment)
    {
        environment[Prefix + "NAME"] = Name;
        environment[Prefix + "CONNECTION"] = ConnectionString;
        environment[Prefix + "LOG"] = LogFile;
        environment[Prefix + "SEED"] = Seed.ToString(CultureInfo.InvariantCulture);
        environment[Prefix + "LEASE"] = Lease.TotalMilliseconds.ToString(CultureInfo.InvariantCulture);
    }

    private static string Get(string name) => Environment.GetEnvironmentVariable(Prefix + name)
        ?? throw new InvalidOperationException($"{Prefix}{name} is not set: an actor is started by the run, not by hand.");
}
