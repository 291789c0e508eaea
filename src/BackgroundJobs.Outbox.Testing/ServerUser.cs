using System.Diagnostics;

namespace BackgroundJobs.Outbox.Testing;

// Whom the server runs as. PostgreSQL refuses to run as root; a build in a container usually is root.
internal sealed class ServerUser
{
    private ServerUser(string? name, string[] prefix)
    {
        Name = name;
        Prefix = prefix;
    }

    public static ServerUser Current { get; } = Find();

    // Null: ourselves.
    public string? Name { get; }

    // What to put before a command so that it runs as this user. Both replace themselves by the command: no process is left between.
    public string[] Prefix { get; }

    public async Task OwnAsync(string folder, CancellationToken cancellationToken)
    {
        if (Name is not null)
            await RunAsync([], "chown", ["-R", Name, folder], cancellationToken).ConfigureAwait(false);
    }

    public Task RunAsync(string program, string[] arguments, CancellationToken cancellationToken) => RunAsync(Prefix, program, arguments, cancellationToken);

    private static ServerUser Find()
    {
        if (OperatingSystem.IsWindows() || Environment.UserName != "root")
            return new(null, []);
        var passwd = File.Exists("/etc/passwd") ? File.ReadAllLines("/etc/passwd") : [];
        var name = passwd.Any(line => line.StartsWith("postgres:", StringComparison.Ordinal)) ? "postgres" : "nobody";
        if (OperatingSystem.IsMacOS())
            return new(name, ["sudo", "-n", "-u", name, "--"]);
        var fields = passwd.FirstOrDefault(line => line.StartsWith(name + ":", StringComparison.Ordinal))?.Split(':') ?? [name, "x", "65534", "65534"];
        return new(name, ["setpriv", $"--reuid={fields[2]}", $"--regid={fields[3]}", "--clear-groups", "--"]);
    }

    private static async Task RunAsync(string[] prefix, string program, string[] arguments, CancellationToken cancellationToken)
    {
        string[] all = [.. prefix, program, .. arguments];
        using var process = Process.Start(new ProcessStartInfo(all[0], all[1..])
        {
            WorkingDirectory = OperatingSystem.IsWindows() ? Path.GetTempPath() : "/",
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        var output = process.StandardOutput.ReadToEndAsync(cancellationToken);
        var error = await process.StandardError.ReadToEndAsync(cancellationToken).ConfigureAwait(false);
        await output.ConfigureAwait(false);
        await process.WaitForExitAsync(cancellationToken).ConfigureAwait(false);
        if (process.ExitCode != 0)
            throw new PostgresServerException($"{Path.GetFileName(program)} failed with exit code {process.ExitCode}: {error.Trim()}");
    }
}
