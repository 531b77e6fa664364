//! The report as JUnit XML, for the pages of a CI: one suite a lab, one case a step, phases before them.

use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::Row;
use crate::error::LabError;

/// The file of a lab whose steps were run.
pub(super) fn write(path: &Path, lab: &str, rows: &[Row]) -> Result<(), LabError> {
    let mut suite = TestSuite::new(lab);
    for row in rows {
        let status = match &row.result {
            None | Some(Ok(_)) => TestCaseStatus::success(),
            Some(Err(why)) => told(NonSuccessKind::Failure, why),
        };
        let mut case = TestCase::new(row.title.as_str(), status);
        case.set_classname(match row.result {
            None => "phase",
            Some(_) => "step",
        });
        case.set_time(row.took);
        if let Some(Ok(seen)) = &row.result
            && !seen.is_empty()
        {
            case.set_system_out(seen.as_str());
        }
        suite.add_test_case(case);
    }
    suite.set_time(rows.iter().map(|row| row.took).sum::<Duration>());
    save(path, lab, suite)
}

/// The file of a lab that did not come up: one case, in error.
pub(super) fn write_broken(path: &Path, lab: &str, error: &LabError) -> Result<(), LabError> {
    let mut words = error.to_string();
    for mistake in error.diagnostics() {
        words.push_str(&format!(
            "\n{}:{}:{}: {}",
            mistake.source.name, mistake.line, mistake.column, mistake.message
        ));
    }
    let status = told(NonSuccessKind::Error, &words);
    let mut case = TestCase::new("the lab comes up", status);
    case.set_classname("phase");
    let mut suite = TestSuite::new(lab);
    suite.add_test_case(case);
    save(path, lab, suite)
}

/// The first line as the message, all of it as the text.
fn told(kind: NonSuccessKind, words: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(words.lines().next().unwrap_or_default());
    status.set_description(words);
    status
}

fn save(path: &Path, lab: &str, suite: TestSuite) -> Result<(), LabError> {
    let mut report = Report::new(format!("weft lab {lab}"));
    report.add_test_suite(suite);
    let text = report
        .to_string()
        .map_err(|error| LabError::failed("the JUnit report", error, "please report this"))?;
    std::fs::write(path, text).map_err(LabError::io("write the JUnit report", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(title: &str, result: Option<Result<String, String>>) -> Row {
        Row {
            title: title.to_owned(),
            took: Duration::from_millis(1500),
            number: None,
            result,
        }
    }

    #[test]
    fn passed_and_failed_steps_are_cases_of_one_suite() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let why = "expected: a < b; seen: \"c\"\nstep 2 at x.toml:9".to_owned();
        let rows = [
            row("nodes ready", None),
            row("a & b", Some(Ok("an answer".to_owned()))),
            row("c", Some(Err(why))),
        ];
        write(file.path(), "small", &rows).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        for words in [
            "<testsuite name=\"small\" tests=\"3\"",
            "errors=\"0\" failures=\"1\"",
            "name=\"a &amp; b\" classname=\"step\" time=\"1.500\"",
            "<system-out>an answer</system-out>",
            "message=\"expected: a &lt; b; seen: &quot;c&quot;\"",
            "step 2 at x.toml:9",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn a_lab_that_does_not_come_up_is_one_case_in_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = LabError::failed("node n1", "it ended", "see its log");
        write_broken(file.path(), "small", &error).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(text.contains("errors=\"1\""), "{text}");
        assert!(text.contains("message=\"node n1: it ended\""), "{text}");
    }
}
