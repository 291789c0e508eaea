using BackgroundJobs.Outbox.Benchmarks.Harness;
using OxyPlot;
using OxyPlot.Annotations;
using OxyPlot.Axes;
using OxyPlot.Series;

namespace BackgroundJobs.Outbox.Benchmarks.Report;

internal static class ChartFile
{
    private const double Width = 760;

    public static async Task WriteAsync(Chart chart, string file)
    {
        // Room is given, not measured: the exporter takes texts for smaller than they are drawn.
        var model = new PlotModel
        {
            Title = chart.Title,
            TitleFontSize = 15,
            Background = OxyColors.White,
            PlotAreaBorderThickness = new OxyThickness(0),
            Padding = new OxyThickness(12, 20, 24, 12),
            PlotMargins = new OxyThickness(chart.Step is null ? 220 : 80, double.NaN, double.NaN, double.NaN),
        };
        if (chart.Step is { } step)
            Lines(model, chart, step);
        else
            Bars(model, chart);
        var height = chart.Step is null ? 110 + (34 * chart.Series.Count) : 340;
        await File.WriteAllTextAsync(file, new SvgExporter { Width = Width, Height = height }.ExportToString(model) + "\n");
    }

    private static void Lines(PlotModel model, Chart chart, double step)
    {
        model.Axes.Add(new LinearAxis { Position = AxisPosition.Bottom, Title = "s", Minimum = 0 });
        model.Axes.Add(new LinearAxis { Position = AxisPosition.Left, Title = chart.Unit, Minimum = 0, StringFormat = "N0", MajorGridlineStyle = LineStyle.Dot, AxisTitleDistance = 24 });
        foreach (var (label, values) in chart.Series)
        {
            var line = new LineSeries { StrokeThickness = 2 };
            line.Points.AddRange(values.Select((value, at) => new DataPoint((at + 1) * step, value)));
            model.Series.Add(line);
            model.Annotations.Add(new TextAnnotation
            {
                Text = label,
                TextPosition = line.Points[^1],
                TextHorizontalAlignment = HorizontalAlignment.Right,
                TextVerticalAlignment = VerticalAlignment.Bottom,
                Stroke = OxyColors.Transparent,
            });
        }
    }

    private static void Bars(PlotModel model, Chart chart)
    {
        // The axis counts from below.
        var upwards = chart.Series.Reverse().ToList();
        var labels = new CategoryAxis { Position = AxisPosition.Left, GapWidth = 0.4, IsTickCentered = true };
        labels.Labels.AddRange(upwards.Select(each => each.Label));
        model.Axes.Add(labels);
        model.Axes.Add(new LinearAxis { Position = AxisPosition.Bottom, Title = chart.Unit, Minimum = 0, MaximumPadding = 0.15, StringFormat = "#,0.##", IntervalLength = 90, MajorGridlineStyle = LineStyle.Dot });
        var bars = new BarSeries { LabelFormatString = upwards.Any(each => each.Values[0] >= 100) ? "{0:N0}" : "{0:0.00}", LabelMargin = 8, FillColor = OxyColor.FromRgb(0x2f, 0x6f, 0xb0) };
        bars.Items.AddRange(upwards.Select(each => new BarItem(each.Values[0])));
        model.Series.Add(bars);
    }
}
