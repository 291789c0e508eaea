using System.Diagnostics;

namespace BackgroundJobs.Outbox.Chaos.Server;

// A process with another wall clock, by libfaketime. A file says by how much, and may be changed while the process runs.
internal static class ShiftedClock
{
    /// <summary>libfaketime, where it is installed.</summary>
    public static string? Library { get; } = Find();

    public static void Use(ProcessStartInfo start, string file)
    {
        start.Environment["LD_PRELOAD"] = Library;
        start.Environment["FAKETIME_TIMESTAMP_FILE"] = file;
        start.Environment["FAKETIME_NO_CACHE"] = "1";

        // The monotonic clock stays: it is not one that jumps.
        start.Environment["FAKETIME_DONT_FAKE_MONOTONIC"] = "1";

        // Or every wait of the runtime that has a limit is over at once: each heartbeat then failed, and nothing but that was shown.
        start.Environment["FAKETIME_FORCE_MONOTONIC_FIX"] = "0";
    }

    private static string? Find() =>
        Directory.Exists("/usr/lib")
            ? new[] { "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib" }
                .Select(folder => Path.Combine(folder, "faketime", "libfaketimeMT.so.1"))
                .FirstOrDefault(File.Exists)
            : null;
}
