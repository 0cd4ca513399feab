"""What a client of the three batch APIs can meet, and the tests that hold us to it."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

CONTRACT, OPENAI = "test_provider_contract", "test_provider_openai"
ANTHROPIC, GOOGLE = "test_provider_anthropic", "test_provider_google"
LINES_OPENAI, LINES_ANTHROPIC = "test_openai_results", "test_anthropic_results"
LINES_GOOGLE, TRANSLATION = "test_google_results", "test_translation"
CLIENT, CLIENT_ANTHROPIC, CLIENT_GOOGLE = (
    "test_client",
    "test_client_anthropic",
    "test_client_google",
)

FACTS = {
    # every provider
    "a create whose answer is lost may have made a job": (
        CONTRACT,
        "test_a_create_goes_out_once_and_says_what_is_known",
    ),
    "an SDK repeats requests unless it is told not to": (
        CONTRACT,
        "test_no_request_is_ever_repeated_by_the_sdk",
    ),
    "HTTP statuses, with bodies of any kind": (CONTRACT, "test_every_status_says_what_is_known"),
    "retry-after as seconds, date, milliseconds, nonsense": (
        CONTRACT,
        "test_a_wait_may_be_told_in_several_ways",
    ),
    "a page of a proxy instead of an answer": (
        CONTRACT,
        "test_a_page_that_is_no_answer_is_unclear",
    ),
    "a 401 that repeats the key": (CONTRACT, "test_a_refused_key_is_told_without_the_key"),
    "nobody listens": (CONTRACT, "test_nobody_listening_is_busy"),
    "an unknown state": (CONTRACT, "test_an_unknown_state_is_active"),
    "an unknown kind of result": (CONTRACT, "test_every_end_of_a_row_is_told_apart"),
    "results in any order": (CONTRACT, "test_every_answer_belongs_to_its_prompt"),
    "a job that expires, with or without answers": (
        CONTRACT,
        "test_rows_that_were_not_reached_in_time_are_expired",
    ),
    "a job that is cancelled with a part done": (
        CONTRACT,
        "test_a_cancelled_job_keeps_what_was_done",
    ),
    "a cancel of what is gone": (CONTRACT, "test_a_cancel_of_what_is_not_there_is_told"),
    "every row failed": (CONTRACT, "test_a_job_whose_rows_all_failed_has_every_reason"),
    "404 after the retention": (CONTRACT, "test_a_vanished_job_is_told_from_a_busy_server"),
    "window and retention": (CONTRACT, "test_a_job_says_how_long_its_results_are_kept"),
    "a torn download": (CONTRACT, "test_a_download_is_whole_or_incomplete"),
    "an empty result file": (CONTRACT, "test_an_empty_file_of_results_holds_no_rows"),
    "an empty listing": (CONTRACT, "test_a_listing_without_jobs_is_empty"),
    "refusals, cuts, tool calls, thoughts, citations": (
        CONTRACT,
        "test_every_part_of_an_answer_is_kept",
    ),
    "several answers to one request": (CONTRACT, "test_several_answers_to_one_request_are_kept"),
    "embeddings, or none": (CONTRACT, "test_embeddings_are_vectors_or_refused_in_one_line"),
    "transport errors of every kind": (
        TRANSLATION,
        "test_every_exception_of_the_transport_is_translated",
    ),
    # OpenAI
    "OpenAI: every state": (LINES_OPENAI, "test_every_state_has_a_phase"),
    "OpenAI: fields that are null or missing": (LINES_OPENAI, "test_a_batch_may_tell_little"),
    "OpenAI: the seven codes of a batch that is refused after its create": (
        OPENAI,
        "test_a_batch_that_fails_as_a_whole_says_why",
    ),
    "OpenAI: token_limit_exceeded is worth another try": (
        CLIENT,
        "test_a_full_queue_is_waited_for",
    ),
    "OpenAI: both shapes of error lines": (
        LINES_OPENAI,
        "test_a_failure_says_whether_it_was_billed",
    ),
    "OpenAI: completed without an output file": (
        "test_recordings",
        "test_a_reported_batch_whose_rows_all_failed_is_understood",
    ),
    "OpenAI: cancelled while validating, without any file": (
        LINES_OPENAI,
        "test_rows_that_no_file_mentions_have_the_fate_of_the_batch",
    ),
    "OpenAI: the cancel of an ended batch is a 409": (
        OPENAI,
        "test_an_ended_batch_is_returned_by_cancel_as_it_is",
    ),
    "OpenAI: uploads are answered oddly": (OPENAI, "test_an_odd_answer_to_an_upload_is_told"),
    "OpenAI: an upload of no batch file is refused": (
        "test_recordings",
        "test_a_reported_refusal_of_an_upload_is_told",
    ),
    "OpenAI: an upload of bad lines is accepted": (
        "test_recordings",
        "test_a_reported_upload_of_bad_lines_is_accepted",
    ),
    "OpenAI: 100 batches a page": (
        OPENAI,
        "test_the_listing_is_read_page_by_page_until_it_is_too_old",
    ),
    "OpenAI: 50,000 rows, 200 MB": (OPENAI, "test_limits_stay_within_what_openai_takes"),
    "OpenAI: 50,000 inputs of embeddings": (
        "test_results",
        "test_jobs_of_embeddings_are_split_by_inputs",
    ),
    "OpenAI: metadata of 16 pairs, 64 and 512 characters": (
        "test_recordings",
        "test_a_create_is_what_the_schema_takes",
    ),
    "OpenAI: an unknown model": (
        OPENAI,
        "test_an_unknown_model_is_refused_before_anything_is_uploaded",
    ),
    "OpenAI: base64 vectors": (LINES_OPENAI, "test_a_vector_is_read_from_floats_and_from_base64"),
    # Anthropic
    "Anthropic: all counts are zero until the end": (
        ANTHROPIC,
        "test_counts_are_unknown_until_the_end",
    ),
    "Anthropic: counts are missing": (
        ANTHROPIC,
        "test_a_batch_without_counts_is_read_all_the_same",
    ),
    "Anthropic: retry-after on a 200": (ANTHROPIC, "test_a_poll_says_when_to_come_again"),
    "Anthropic: results_url on a foreign host": (
        ANTHROPIC,
        "test_results_are_fetched_from_our_own_server_only",
    ),
    "Anthropic: no results_url, archived": (
        ANTHROPIC,
        "test_an_archived_batch_has_no_results_any_more",
    ),
    "Anthropic: errors are nested twice": (LINES_ANTHROPIC, "test_an_errored_row_cost_nothing"),
    "Anthropic: canceled and expired rows": (
        LINES_ANTHROPIC,
        "test_rows_that_were_not_reached_cost_nothing",
    ),
    "Anthropic: an unknown result type": (LINES_ANTHROPIC, "test_an_unknown_type_is_shown"),
    "Anthropic: stop reasons": (LINES_ANTHROPIC, "test_reasons_are_anthropics_own_words"),
    "Anthropic: cache reads and writes are counted apart": (
        LINES_ANTHROPIC,
        "test_tokens_of_the_cache_are_part_of_the_input",
    ),
    "Anthropic: spend limit, empty account": (ANTHROPIC, "test_the_cause_of_an_error_decides"),
    "Anthropic: nothing to find a lost create by": (
        ANTHROPIC,
        "test_candidates_are_of_the_right_size",
    ),
    "Anthropic: pages of a listing": (ANTHROPIC, "test_the_listing_is_read_page_by_page"),
    "Anthropic: sampling parameters are refused": (
        CLIENT_ANTHROPIC,
        "test_a_removed_parameter_is_told_before_anything_is_sent",
    ),
    "Anthropic: 100,000 rows, 256 MB": (ANTHROPIC, "test_limits_stay_within_what_anthropic_takes"),
    "Anthropic: the cancel of an ended batch": (
        ANTHROPIC,
        "test_an_ended_batch_is_returned_by_cancel_as_it_is",
    ),
    # Gemini
    "Gemini: every state of wire and SDK": (
        LINES_GOOGLE,
        "test_every_state_of_the_sdk_has_a_phase",
    ),
    "Gemini: PARTIALLY_SUCCEEDED": (CLIENT_GOOGLE, "test_a_partially_succeeded_job_is_collected"),
    "Gemini: done, in a state that nobody knows": (
        LINES_GOOGLE,
        "test_an_operation_that_is_done_is_over_whatever_its_state",
    ),
    "Gemini: counts are strings, none that is zero": (
        LINES_GOOGLE,
        "test_counts_are_strings_and_left_out_when_zero",
    ),
    "Gemini: the output stands in two places": (
        LINES_GOOGLE,
        "test_the_result_file_is_found_in_either_place",
    ),
    "Gemini: listings hold no inline answers": (
        GOOGLE,
        "test_a_job_seen_in_a_listing_is_collected_all_the_same",
    ),
    "Gemini: files/batch-… can only be downloaded": (
        GOOGLE,
        "test_a_result_file_is_streamed_and_checked",
    ),
    "Gemini: a row is a response, an error, or a bare status": (
        LINES_GOOGLE,
        "test_an_error_says_whether_it_is_worth_another_try",
    ),
    "Gemini: rows cancelled in a job that succeeded": (
        CLIENT_GOOGLE,
        "test_rows_that_google_cancelled_are_sent_again",
    ),
    "Gemini: finish reasons": (LINES_GOOGLE, "test_no_reason_loses_text"),
    "Gemini: blocked prompts": (LINES_GOOGLE, "test_a_blocked_prompt_is_refused"),
    "Gemini: jobs expire after 48 hours": (
        LINES_GOOGLE,
        "test_a_state_has_a_phase_and_speaks_for_the_rows_without_a_line",
    ),
    "Gemini: an expired job gives nothing": (
        GOOGLE,
        "test_an_ended_job_without_answers_gives_none",
    ),
    "Gemini: an upload is gone before its job": (
        CLIENT_GOOGLE,
        "test_an_upload_that_is_gone_is_repeated",
    ),
    "Gemini: uploads are answered oddly": (GOOGLE, "test_an_upload_that_went_wrong_is_unclear"),
    "Gemini: v1 and v1beta": (GOOGLE, "test_the_version_of_the_api_is_honoured"),
    "Gemini: a failed job": (LINES_GOOGLE, "test_a_failed_job_says_why_and_whether_to_wait"),
    "Gemini: a cancel answers nothing, or is refused": (
        GOOGLE,
        "test_a_cancel_of_what_is_over_is_refused",
    ),
    "Gemini: a wrong key is a 400": (GOOGLE, "test_a_wrong_key_is_a_400_here"),
    "Gemini: 429 with and without a delay": (
        GOOGLE,
        "test_a_429_says_whether_quota_is_used_up_and_how_long_to_wait",
    ),
    "Gemini: pages of a listing": (GOOGLE, "test_every_page_of_the_listing_is_looked_through"),
    "Gemini: 20 MB inline, 2 GB in a file": (GOOGLE, "test_limits_stay_within_what_google_takes"),
    "Gemini: settings of embeddings, inline and in a file": (
        GOOGLE,
        "test_embeddings_keep_their_settings_in_every_kind_of_job",
    ),
}


def functions(module):
    (path,) = TESTS.glob(f"*/{module}.py")
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("fact", FACTS)
def test_every_fact_has_its_test(fact):
    """The test is there, under this name."""
    module, name = FACTS[fact]
    assert name in functions(module)
