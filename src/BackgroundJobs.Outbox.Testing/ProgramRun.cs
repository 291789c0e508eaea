using System.ComponentModel;
using System.Diagnostics;

namespace BackgroundJobs.Outbox.Testing;

// One run of another program to its end, with what it printed.
internal sealed record ProgramRun(int ExitCode, string Output)
{
    // Not captured: a program that leaves a child behind, on Windows, where the child keeps the pipe open and reading it never ends.
    public static async Task<ProgramRun> ToEndAsync(IReadOnlyList<string> command, CancellationToken cancellationToken, bool capture = true)
    {
        using var process = new Process { StartInfo = StartInfo(command) };
        process.StartInfo.RedirectStandardInput = true;
        process.StartInfo.RedirectStandardOutput = capture;
        process.StartInfo.RedirectStandardError = capture;
        try
        {
            process.Start();
        }
        catch (Win32Exception e)
        {
            return new ProgramRun(-1, $"{command[0]} cannot be started: {e.Message}");
        }

        process.StandardInput.Close();
        var output = capture ? process.StandardOutput.ReadToEndAsync(cancellationToken) : Task.FromResult("");
        var errors = capture ? process.StandardError.ReadToEndAsync(cancellationToken) : Task.FromResult("");
        try
        {
            await process.WaitForExitAsync(cancellationToken).ConfigureAwait(false);
            return new ProgramRun(process.ExitCode, (await output.ConfigureAwait(false) + await errors.ConfigureAwait(false)).Trim());
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw;
        }
    }

    // The root as working directory: a server's user may not enter the one we are in.
    public static ProcessStartInfo StartInfo(IReadOnlyList<string> command) => new(command[0], command.Skip(1))
    {
        WorkingDirectory = Path.GetPathRoot(Environment.SystemDirectory) is { Length: > 0 } root ? root : "/",
        UseShellExecute = false,
        CreateNoWindow = true,
    };
}
